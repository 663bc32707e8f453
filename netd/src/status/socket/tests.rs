use std::os::unix::fs::PermissionsExt;

use super::*;

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime")
}

#[test]
fn one_live_daemon_at_a_time() {
    runtime().block_on(async {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("deep/netd.sock");
        let (claim, _listener) = Claim::take(&path).await.expect("a free place");
        let mode = fs::metadata(&path).expect("the socket").permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "root's alone");
        let taken = Claim::take(&path).await.expect_err("somebody answers there");
        assert!(matches!(taken, ClaimError::Alive { .. }), "{taken}");
        assert!(matches!(remove_stale(&path).await, Err(ClaimError::Alive { .. })), "nor is it cleaned up");
        drop(claim);
        let left = fs::read_dir(folder.path().join("deep")).expect("the folder").count();
        assert_eq!(left, 0, "nothing stays behind");
    });
}

#[test]
fn a_killed_daemons_file_is_replaced() {
    runtime().block_on(async {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("netd.sock");
        drop(std::os::unix::net::UnixListener::bind(&path).expect("a socket"));
        assert!(path.exists(), "a socket's file outlives its owner");
        let (first, _first_listener) = Claim::take(&path).await.expect("a place that nobody holds");
        UnixStream::connect(&path).expect("the new one answers");
        // Somebody removes the file, and another daemon takes the place: the first one's end must leave it alone.
        fs::remove_file(&path).expect("the file");
        let (second, _second_listener) = Claim::take(&path).await.expect("a place that nobody holds");
        drop(first);
        assert!(path.exists(), "the file is the second's");
        drop(second);
        assert!(!path.exists());
    });
}

#[test]
fn a_file_that_is_no_socket_stays() {
    runtime().block_on(async {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("netd.sock");
        fs::write(&path, "mine").expect("a file");
        assert!(matches!(Claim::take(&path).await, Err(ClaimError::NoSocket { .. })));
        assert_eq!(fs::read_to_string(&path).expect("the file"), "mine");
    });
}
