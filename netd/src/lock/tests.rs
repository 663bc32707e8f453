use std::os::unix::fs::{PermissionsExt, symlink};

use super::*;

#[test]
fn a_lock_is_private_and_leaves_nothing() {
    let room = tempfile::tempdir().expect("temporary folder");
    let path = room.path().join("lock");
    let lock = try_take(&path, "first").expect("the file").expect("a free lock");
    let mode = fs::metadata(&path).expect("the file").permissions().mode();
    assert_eq!(mode & 0o777, 0o600, "nobody else can open the file");
    assert!(try_take(&path, "second").expect("the file").is_none(), "the first one holds it");
    drop(lock);
    assert!(!path.exists(), "the file is gone");
}

#[test]
fn a_link_is_not_followed() {
    let room = tempfile::tempdir().expect("temporary folder");
    let (victim, path) = (room.path().join("victim"), room.path().join("lock"));
    fs::write(&victim, "precious").expect("a file");
    symlink(&victim, &path).expect("a link");
    try_take(&path, "first").expect_err("a link");
    assert_eq!(fs::read_to_string(&victim).expect("the file"), "precious");
}
