//! Metrics as a file for the textfile collector of `node_exporter`, replaced atomically.

use std::{
    fs::{self, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::Path,
};

/// Replaces the file at `path`. Every user may read it: the collector runs as another user.
pub(crate) fn write(path: &Path, text: &str) -> io::Result<()> {
    // Not `.prom`: the collector reads each file with that suffix.
    let mut new = path.as_os_str().to_owned();
    new.push(".new");
    let written = write_new(new.as_ref(), text).and_then(|()| fs::rename(&new, path));
    if written.is_err() {
        // Report the first error.
        let _ = fs::remove_file(&new);
    }
    written
}

fn write_new(path: &Path, text: &str) -> io::Result<()> {
    // A killed process may have left a file.
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o644)
        .open(path)?;
    file.write_all(text.as_bytes())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn the_file_is_replaced_whole() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("imdsmon.prom");
        let left = directory.path().join("imdsmon.prom.new");
        fs::write(&left, "left by a kill").unwrap();
        write(&path, "one 1\n").unwrap();
        let open = fs::File::open(&path).unwrap();
        write(&path, "two 2\n").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "two 2\n");
        assert_eq!(io::read_to_string(open).unwrap(), "one 1\n");
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_failure_leaves_the_old_one_and_nothing_else() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("imdsmon.prom");
        fs::create_dir(&path).unwrap();
        fs::write(path.join("in the way"), "").unwrap();
        write(&path, "one 1\n").unwrap_err();
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
        write(&directory.path().join("missing/imdsmon.prom"), "").unwrap_err();
    }

    #[test]
    fn link_at_the_path_is_replaced_not_followed() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("imdsmon.prom");
        let target = directory.path().join("target");
        fs::write(&target, "precious").unwrap();
        symlink(&target, directory.path().join("imdsmon.prom.new")).unwrap();
        write(&path, "one 1\n").unwrap();
        assert_eq!(fs::read_to_string(target).unwrap(), "precious");
    }
}
