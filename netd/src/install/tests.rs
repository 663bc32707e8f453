use std::ffi::OsString;

use super::*;
use crate::config::Config;

/// A node's folder, and a plugin's program to install there.
struct Room(tempfile::TempDir);

impl Room {
    fn new() -> Self {
        let room = Self(tempfile::tempdir().expect("temporary folder"));
        fs::create_dir(room.path("bin")).expect("a folder");
        room.provide(b"\x7fELF the plugin");
        room
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn provide(&self, program: &[u8]) {
        fs::write(self.path("netd-cni"), program).expect("a program");
    }

    fn run(&self, more: &[&str]) -> Result<(), InstallError> {
        let own = [
            format!("--cni-bin-dir={}", self.path("bin").display()),
            format!("--cni-plugin={}", self.path("netd-cni").display()),
        ];
        let args: Vec<&str> = own.iter().map(String::as_str).chain(more.iter().copied()).collect();
        run(&Config::of(&args))
    }

    fn names(&self) -> Vec<OsString> {
        let mut names: Vec<_> =
            fs::read_dir(self.path("bin")).expect("list").flatten().map(|it| it.file_name()).collect();
        names.sort();
        names
    }
}

fn text(error: &InstallError) -> String {
    network::chain(error)
}

#[test]
fn the_plugin_is_installed_once_and_replaced_if_it_differs() {
    let room = Room::new();
    let installed = room.path("bin/netd");
    let changed = || fs::metadata(&installed).and_then(|it| it.modified()).expect("installed");
    room.run(&[]).expect("installed");
    let first = changed();
    assert_eq!(fs::metadata(&installed).expect("installed").permissions().mode() & 0o7777, 0o755);
    room.run(&[]).expect("again");
    assert_eq!(changed(), first, "the same program is left alone");

    let running = fs::File::open(&installed).expect("the old one");
    room.provide(b"\x7fELF another plugin");
    room.run(&[]).expect("replaced");
    assert_eq!(fs::read(&installed).expect("read"), b"\x7fELF another plugin");
    assert_eq!(io::read_to_string(running).expect("read"), "\x7fELF the plugin", "who has the old one open keeps it");

    fs::set_permissions(&installed, fs::Permissions::from_mode(0o644)).expect("chmod");
    room.run(&[]).expect("mended");
    assert_eq!(fs::metadata(&installed).expect("installed").permissions().mode() & 0o7777, 0o755);
    assert_eq!(room.names(), ["netd"], "nothing else stays");
    assert!(remove(&room.path("bin")).expect("removed") && !remove(&room.path("bin")).expect("nothing to remove"));
}

#[test]
fn a_link_in_its_place_is_replaced_and_not_followed() {
    let room = Room::new();
    fs::write(room.path("precious"), "mine").expect("write");
    std::os::unix::fs::symlink(room.path("precious"), room.path("bin/netd")).expect("link");
    room.run(&[]).expect("installed");
    assert_eq!(fs::read(room.path("precious")).expect("read"), b"mine");
    assert!(fs::symlink_metadata(room.path("bin/netd")).expect("installed").is_file());
}

#[test]
fn what_cannot_be_installed_leaves_the_old_one() {
    let room = Room::new();
    room.run(&[]).expect("installed");
    for (program, said) in [(&b""[..], "0 bytes"), (b"#!/bin/sh\n", "no program")] {
        room.provide(program);
        let message = text(&room.run(&[]).expect_err("no program"));
        assert!(message.contains(said) && message.contains("--cni-plugin"), "{message}");
    }
    fs::remove_file(room.path("netd-cni")).expect("remove");
    let message = text(&room.run(&[]).expect_err("no source"));
    assert!(message.contains("netd-cni") && message.contains("--cni-plugin"), "{message}");
    assert_eq!(fs::read(room.path("bin/netd")).expect("read"), b"\x7fELF the plugin");
    assert_eq!(room.names(), ["netd"]);
}

#[test]
fn a_folder_in_its_place_is_told() {
    let room = Room::new();
    fs::create_dir_all(room.path("bin/netd/inside")).expect("a folder");
    let message = text(&room.run(&[]).expect_err("a folder is in the way"));
    assert!(message.contains("--cni-bin-dir"), "{message}");
    assert_eq!(room.names(), ["netd"], "nothing half-written stays");
}

#[test]
fn plugins_that_the_configuration_names_must_be_there() {
    let room = Room::new();
    let conf = r#"{"name": "cbr0", "cniVersion": "1.0.0", "plugins": [{"type": "netd"}, {"type": "portmap"}]}"#;
    fs::write(room.path("cni-conf.json"), conf).expect("write");
    let source = format!("--cni-conf-source={}", room.path("cni-conf.json").display());
    let message = text(&room.run(&[&source]).expect_err("portmap is missing"));
    assert!(message.contains("\"portmap\"") && message.contains("cni-conf.json"), "{message}");
    assert_eq!(room.names(), ["netd"], "netd's own is there");
    fs::write(room.path("bin/portmap"), "").expect("write");
    room.run(&[&source]).expect("all are there");

    fs::write(room.path("cni-conf.json"), "{").expect("write");
    let message = text(&room.run(&[&source]).expect_err("no JSON"));
    assert!(message.contains("no JSON") && message.contains("--cni-conf-source"), "{message}");
    fs::remove_file(room.path("cni-conf.json")).expect("remove");
    let message = text(&room.run(&[&source]).expect_err("no file"));
    assert!(message.contains("cannot read --cni-conf-source"), "{message}");
}
