use std::{fs, time::Instant};

use crate::enrich::package::*;

fn file(path: &str) -> FileId {
    use std::os::unix::fs::MetadataExt as _;
    let metadata = fs::metadata(path).unwrap();
    FileId {
        device: metadata.dev(),
        inode: metadata.ino(),
    }
}

/// The database that rpm 4.18 made of one package with two files of the same name.
fn with_rpm(root: &Path) {
    let at = root.join("var/lib/rpm");
    fs::create_dir_all(&at).unwrap();
    fs::copy(
        concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/rpmdb.sqlite"),
        at.join("rpmdb.sqlite"),
    )
    .unwrap();
}

#[test]
fn the_files_of_an_rpm_package_are_its() {
    let root = tempfile::tempdir().unwrap();
    with_rpm(root.path());
    let host = HostRoot::at(root.path());
    let package = Some("metadata-tool 1:2.3-4.amzn2023".to_owned());
    assert_eq!(look(&host, b"/usr/bin/metadata-tool"), package);
    assert_eq!(look(&host, b"/opt/tool/metadata-tool"), package);
    assert_eq!(look(&host, b"/opt/tool/other"), package);
    for exe in [
        "/usr/bin/other",
        "/srv/metadata-tool",
        "/none",
        "",
        "/'; DROP TABLE Packages",
    ] {
        assert_eq!(look(&host, exe.as_bytes()), None, "{exe}");
    }
    let names: Vec<_> = fs::read_dir(root.path().join("var/lib/rpm"))
        .unwrap()
        .collect();
    assert_eq!(names.len(), 1, "nothing was written beside it");
}

#[test]
fn the_files_of_a_debian_package_are_its() {
    let root = tempfile::tempdir().unwrap();
    let info = root.path().join("var/lib/dpkg/info");
    fs::create_dir_all(&info).unwrap();
    fs::write(info.join("curl.list"), "/.\n/usr/bin\n/usr/bin/curl\n").unwrap();
    fs::write(
        info.join("sed:amd64.list"),
        "/.\n/bin/sed\n/usr/share/doc/sed",
    )
    .unwrap();
    fs::write(
        info.join("../status"),
        "Package: curl-doc\nVersion: 9\n\nPackage: curl\nStatus: ok\nVersion: 7.88.1-10\n\nPackage: sed\nVersion: 4.9-1\n",
    )
    .unwrap();
    let host = HostRoot::at(root.path());
    for (exe, package) in [
        ("/usr/bin/curl", Some("curl 7.88.1-10")),
        ("/usr/bin/sed", Some("sed 4.9-1")),
        ("/bin/sed", Some("sed 4.9-1")),
        ("/usr/share/doc/sed", Some("sed 4.9-1")),
        ("/usr/bin/cur", None),
        ("/bin/curl", None),
        ("curl", None),
    ] {
        assert_eq!(look(&host, exe.as_bytes()).as_deref(), package, "{exe}");
    }
}

#[test]
fn answer_is_known_to_later_tasks_without_a_long_wait() {
    let root = tempfile::tempdir().unwrap();
    with_rpm(root.path());
    let mut packages = Packages::new(&Rc::new(HostRoot::at(root.path())));
    let exe: ByteString = "/usr/bin/metadata-tool".into();
    let begin = Instant::now();
    let mut package = None;
    while package.is_none() && begin.elapsed() < Duration::from_secs(10) {
        package = packages.owner(file("/bin/sh"), &exe);
    }
    assert_eq!(package.as_deref(), Some("metadata-tool 1:2.3-4.amzn2023"));
    for _ in 0..1000 {
        assert_eq!(packages.owner(file("/bin/sh"), &exe), package);
    }
    assert!(packages.known.len() == 1, "it was asked for once");
}
