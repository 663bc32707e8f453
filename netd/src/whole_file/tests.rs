use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use super::*;

#[test]
fn a_reader_never_sees_a_part() {
    let room = tempfile::tempdir().expect("temporary folder");
    let path = room.path().join("file");
    let versions = ["a".repeat(100_000), "b".repeat(50_000)];
    write(&path, versions[0].as_bytes()).expect("first version");
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            for version in versions.iter().cycle().take(20) {
                write(&path, version.as_bytes()).expect("write");
            }
            done.store(true, Ordering::SeqCst);
        });
        while !done.load(Ordering::SeqCst) {
            let seen = fs::read_to_string(&path).expect("the file is always there");
            assert!(versions.contains(&seen), "a part of {} bytes was seen", seen.len());
        }
    });
}

#[test]
fn a_failed_write_leaves_the_old_file_and_nothing_else() {
    // A folder in the file's place: the rename fails after all was written.
    let room = tempfile::tempdir().expect("temporary folder");
    let path = room.path().join("file");
    fs::create_dir_all(path.join("inside")).expect("a folder in its place");
    write(&path, b"text").expect_err("a folder is in the way");
    let names: Vec<_> = fs::read_dir(room.path()).expect("list").flatten().map(|entry| entry.file_name()).collect();
    assert_eq!(names, ["file"]);
}

#[test]
fn what_a_killed_writer_left_is_swept_and_nothing_else() {
    let room = tempfile::tempdir().expect("temporary folder");
    let path = room.path().join("file");
    let leftover = tempfile::Builder::new().prefix(&prefix("file".as_ref())).suffix(SUFFIX).tempfile_in(room.path());
    leftover.expect("what a writer begins with").keep().expect("a writer that is killed removes nothing");
    let others = [".file.swp", ".file.abc~", ".file.abcde-~", ".file2.abcdef~", "file", "file.abcdef~"];
    for name in &others {
        fs::write(room.path().join(name), "").expect("somebody else's file");
    }
    sweep(&path);
    let names = fs::read_dir(room.path()).expect("list").flatten().map(|entry| entry.file_name());
    let mut names: Vec<_> = names.map(|name| name.to_string_lossy().into_owned()).collect();
    names.sort();
    let mut expected = others.to_vec();
    expected.sort_unstable();
    assert_eq!(names, expected);
}

#[test]
fn only_regular_files_of_a_bounded_size_are_read() {
    let room = tempfile::tempdir().expect("a folder");
    let (pipe, large) = (room.path().join("pipe"), room.path().join("large"));
    nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRUSR).expect("a pipe");
    fs::write(&large, "x".repeat(64 * 1024 + 1)).expect("a file");
    for (path, why) in [(&*pipe, "no regular file"), (Path::new("/dev/zero"), "no regular file"), (&*large, "64 kB")] {
        let error = read(path).expect_err("not to be read").to_string();
        assert!(error.contains(why), "{}: {error}", path.display());
    }
    fs::write(&large, "x".repeat(64 * 1024)).expect("a file");
    assert_eq!(read(&large).expect("a file").len(), 64 * 1024);
}
