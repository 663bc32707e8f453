use serde_json::json;

use super::*;

#[test]
fn the_list_says_what_runtimes_need() {
    let text = Template::default().render(Path::new("/run/flannel/subnet.env")).expect("text");
    let list: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    let expected = json!({
        "name": "cbr0",
        "cniVersion": "1.0.0",
        "cniVersions": ["1.0.0", "1.1.0"],
        "plugins": [{
            "type": "netd",
            "subnetFile": "/run/flannel/subnet.env",
            "capabilities": {"ips": true, "mac": true}
        }]
    });
    assert_eq!(list, expected);
}

#[test]
fn it_is_installed_once_and_removed_once() {
    let room = tempfile::tempdir().expect("temporary folder");
    let path = room.path().join("net.d/10-netd.conflist");
    let env = Path::new("/run/flannel/subnet.env");
    assert!(install(&path, &Template::default(), env).expect("install"), "written");
    let before = fs::metadata(&path).and_then(|it| it.modified()).expect("metadata");
    assert!(!install(&path, &Template::default(), env).expect("again"), "equal content is left alone");
    assert_eq!(fs::metadata(&path).and_then(|it| it.modified()).expect("metadata"), before);
    assert!(install(&path, &Template::default(), Path::new("/other")).expect("change"), "other content is replaced");
    let names: Vec<_> =
        fs::read_dir(room.path().join("net.d")).expect("list").flatten().map(|it| it.file_name()).collect();
    assert_eq!(names, ["10-netd.conflist"], "no temporary file stays");
    let folder = room.path().join("net.d");
    assert_eq!(remove(&folder, env).expect("a look"), [] as [PathBuf; 0], "it is for another subnet.env");
    assert_eq!(remove(&folder, Path::new("/other")).expect("remove"), [path]);
}

#[test]
fn what_others_have_in_the_folder_is_not_removed() {
    let room = tempfile::tempdir().expect("temporary folder");
    let env = Path::new("/run/flannel/subnet.env");
    let flannels = r#"{ "name": "cbr0", "cniVersion": "0.3.1", "plugins": [{ "type": "flannel" }] }"#;
    for (name, text) in [("10-flannel.conflist", flannels), ("20-broken.conflist", "{ \"name\": ")] {
        fs::write(room.path().join(name), text).expect("a file");
    }
    assert_eq!(remove(room.path(), env).expect("a look"), [] as [PathBuf; 0]);
    assert_eq!(remove(&room.path().join("none"), env).expect("a look"), [] as [PathBuf; 0], "nothing is there");
    let path = room.path().join("10-flannel.conflist");
    install(&path, &Template::default(), env).expect("install");
    assert_eq!(remove(room.path(), env).expect("remove"), [path], "one under flannel's name is netd's");
}
