//! The class of a path, in any spelling that IMDS resolves to it.

use super::data::{Data, PathClass, Segments};

/// Components of a path that are compared.
const MAX_PARTS: usize = 64;

pub(super) fn class(data: &Data, method: &str, path: &str) -> PathClass {
    let path = decoded(path);
    let parts = parts(&path);
    let is_other_cloud = |paths: &[Segments]| paths.iter().any(|path| is_below(&parts, path));
    if data.cloud.iter().any(|cloud| is_other_cloud(&cloud.paths)) {
        return PathClass::OtherCloud;
    }
    let below_version = match parts.split_first() {
        Some((first, rest)) if is_version(first) => rest,
        _ => &parts,
    };
    let fitting = data
        .path
        .iter()
        .filter(|facts| is_below(below_version, &facts.path));
    let class = fitting
        .max_by_key(|facts| facts.path.len())
        .map_or(PathClass::Description, |facts| facts.class);
    // A GET of the token path is no token request: IMDS responds with 405.
    let can_fetch = ["PUT", "POST"]
        .iter()
        .any(|m| m.eq_ignore_ascii_case(method));
    match class {
        PathClass::Token if !can_fetch => PathClass::Description,
        class => class,
    }
}

/// `latest`, `1.0` or a date.
fn is_version(part: &str) -> bool {
    part == "latest" || part == "1.0" || (part.len() == 10 && part.starts_with("20"))
}

fn is_below(parts: &[&str], path: &[String]) -> bool {
    parts.len() >= path.len() && parts.iter().zip(path).all(|(a, b)| a == b)
}

/// The parts as a server resolves them: empty ones and dots left out.
fn parts(path: &str) -> Vec<&str> {
    let mut parts = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            part if parts.len() < MAX_PARTS => parts.push(part),
            _ => break,
        }
    }
    parts
}

/// The percent-decoded path, with U+FFFD for invalid UTF-8.
fn decoded(path: &str) -> String {
    let mut bytes = Vec::with_capacity(path.len());
    let mut rest = path.as_bytes();
    while let Some((&first, behind)) = rest.split_first() {
        let hex = |at: usize| behind.get(at).and_then(|&b| char::from(b).to_digit(16));
        if let (b'%', Some(high), Some(low)) = (first, hex(0), hex(1)) {
            bytes.push(u8::try_from(high * 16 + low).unwrap_or(first));
            rest = &behind[2..];
        } else {
            bytes.push(first);
            rest = behind;
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}
