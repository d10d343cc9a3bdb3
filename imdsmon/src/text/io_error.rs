//! System errors as messages: the cause, then an imperative.

use std::io;

/// `no such file or directory; check the path`
pub(crate) fn reason(error: &io::Error) -> String {
    let text = error.to_string();
    let cause = text.split(" (os error").next().unwrap_or_default();
    let mut chars = cause.chars();
    let first = chars.next().into_iter().flat_map(char::to_lowercase);
    let advice = match error.kind() {
        io::ErrorKind::NotFound => "; check the path",
        io::ErrorKind::PermissionDenied => "; run as root, or change its permissions",
        io::ErrorKind::IsADirectory => "; name a file",
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => "; free space",
        io::ErrorKind::ReadOnlyFilesystem => "; choose another directory",
        _ => "",
    };
    first.chain(chars).chain(advice.chars()).collect()
}
