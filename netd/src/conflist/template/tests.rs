use serde_json::json;

use super::*;

const ENV: &str = "/run/flannel/subnet.env";

fn parse(list: &Value) -> Result<Template, TemplateError> {
    Template::parse(&list.to_string(), Path::new(ENV))
}

fn rendered(list: &Value) -> Value {
    let text = parse(list).expect("a good list").render(Path::new(ENV)).expect("text");
    serde_json::from_str(&text).expect("JSON")
}

fn list(plugins: &Value) -> Value {
    json!({ "name": "cbr0", "cniVersion": "1.0.0", "plugins": plugins })
}

#[test]
fn flannels_well_known_list_is_taken_over() {
    let flannels = json!({
        "name": "cbr0",
        "cniVersion": "0.3.1",
        "plugins": [
            { "type": "flannel", "delegate": { "hairpinMode": true, "isDefaultGateway": true } },
            { "type": "portmap", "capabilities": { "portMappings": true } },
        ],
    });
    let expected = json!({
        "name": "cbr0",
        "cniVersion": "0.3.1",
        "plugins": [
            {
                "type": "netd",
                "subnetFile": ENV,
                "hairpinMode": true,
                "isDefaultGateway": true,
                "capabilities": { "ips": true, "mac": true },
            },
            { "type": "portmap", "capabilities": { "portMappings": true } },
        ],
    });
    assert_eq!(rendered(&flannels), expected);
    assert_eq!(parse(&flannels).expect("a good list").others().collect::<Vec<_>>(), ["portmap"]);
}

#[test]
fn what_the_operator_wrote_stays() {
    let own = json!({
        "name": "cbr0",
        "cniVersion": "1.0.0",
        "cniVersions": ["1.0.0", "1.1.0"],
        "disableCheck": true,
        "plugins": [
            { "type": "netd", "mtu": 1400, "portIsolation": true, "capabilities": { "ips": true } },
            { "type": "bandwidth", "capabilities": { "bandwidth": true } },
        ],
    });
    let mut expected = own.clone();
    expected["plugins"][0]["subnetFile"] = json!(ENV);
    assert_eq!(rendered(&own), expected);
}

#[test]
fn without_a_file_the_list_is_netds_own() {
    let text = Template::default().render(Path::new(ENV)).expect("text");
    parse(&serde_json::from_str(&text).expect("JSON")).expect("its own list is a good one");
    assert_eq!(Template::default().others().count(), 0);
}

#[test]
fn a_fault_names_its_field() {
    let netd = json!({ "type": "netd" });
    let cases = [
        (json!({ "type": "netd", "cniVersion": "1.0.0" }), &["configuration list", "'plugins'"][..]),
        (json!([1]), &["configuration list"]),
        (json!({ "cniVersion": "1.0.0", "plugins": [netd] }), &["name", "missing", "cbr0"]),
        (json!({ "name": "mine", "cniVersion": "1.0.0", "plugins": [netd] }), &["name", "mine", "cbr0"]),
        (json!({ "name": "cbr0", "cniVersion": "2.0.0", "plugins": [netd] }), &["cniVersion", "2.0.0", "1.1.0"]),
        (json!({ "name": "cbr0", "cniVersion": 1, "plugins": [netd] }), &["cniVersion", "a string"]),
        (
            json!({ "name": "cbr0", "cniVersion": "1.0.0", "cniVersions": ["9"], "plugins": [netd] }),
            &["cniVersions", "\"9\""],
        ),
        (list(&json!({})), &["plugins", "a list"]),
        (list(&json!([])), &["plugins", "none has the type \"netd\""]),
        (list(&json!([{ "type": "bridge" }])), &["plugins", "none has the type \"netd\""]),
        (list(&json!([netd, 7])), &["plugins[1]", "an object"]),
        (list(&json!([netd, {}])), &["plugins[1].type"]),
        (list(&json!([netd, { "type": "../sh" }])), &["plugins[1].type"]),
        (list(&json!([netd, { "type": "flannel" }])), &["plugins[1]", "before it"]),
        (list(&json!([{ "type": "netd", "subnetFile": "/x" }])), &["plugins[0].subnetFile", "/x", ENV]),
        (list(&json!([{ "type": "netd", "mtu": "big" }])), &["plugins[0]", "mtu", "big"]),
        (list(&json!([{ "type": "netd", "vlan": 5 }])), &["plugins[0]", "vlan", "5"]),
        (list(&json!([{ "type": "netd", "ipam": { "type": "dhcp" } }])), &["plugins[0]", "ipam.type", "dhcp"]),
        (list(&json!([{ "type": "flannel", "delegate": { "type": "macvlan" } }])), &["delegate.type", "macvlan"]),
        (list(&json!([{ "type": "flannel", "delegate": 3 }])), &["delegate", "an object"]),
        (list(&json!([{ "type": "flannel", "delegate": { "ipMasq": true } }])), &["plugins[0]", "ipMasq"]),
    ];
    for (text, said) in cases {
        let message = parse(&text).expect_err(&text.to_string()).to_string();
        assert!(said.iter().all(|word| message.contains(word)), "{text}: {message}");
    }
    let message = Template::parse("{ \"name\": ", Path::new(ENV)).expect_err("cut short").to_string();
    assert!(message.contains("no JSON"), "{message}");
}
