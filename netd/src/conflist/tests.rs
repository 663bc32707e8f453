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
    assert!(remove(&path).expect("remove") && !remove(&path).expect("remove again"));
}

#[test]
fn one_of_another_network_is_not_removed() {
    let room = tempfile::tempdir().expect("temporary folder");
    let path = room.path().join("10-flannel.conflist");
    let flannels = r#"{ "name": "cbr0", "cniVersion": "0.3.1", "plugins": [{ "type": "flannel" }] }"#;
    fs::write(&path, flannels).expect("a file");
    assert!(!remove(&path).expect("a look"), "it is not netd's");
    assert_eq!(fs::read_to_string(&path).expect("a file"), flannels);
    fs::write(&path, "{ \"name\": ").expect("a file");
    assert!(remove(&path).expect("remove"), "what is no configuration is nobody's");
}
