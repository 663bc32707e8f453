use std::fmt::Write as _;

use proptest::prelude::*;

use super::*;
use crate::model::Object;
use crate::services::Services;

const SERVICE: &str = "\
apiVersion: v1
kind: Service
metadata: {name: web, creationTimestamp: null}
spec:
  clusterIP: 10.96.0.10
  ports:
  - port: 80
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata:
  name: web-1
  labels: {kubernetes.io/service-name: web}
addressType: IPv4
ports: [{port: 8080}]
endpoints: [{addresses: [10.244.1.2]}]
";

fn objects(contents: &Contents) -> Vec<String> {
    contents.objects.iter().map(|(name, _)| name.to_string()).collect()
}

fn resolved(contents: Contents) -> Vec<String> {
    let mut services = Services::new("n1");
    for (_, event) in contents.objects {
        services.apply(event);
    }
    let ports: Vec<_> = services.ports().map(|port| port.key()).collect();
    let cluster = ports.iter().filter_map(|port| services.resolve(port)).flat_map(|resolved| resolved.cluster);
    cluster.map(|address| address.to_string()).collect()
}

#[test]
fn documents_of_yaml_have_the_defaults_of_the_api_server() {
    let contents = read("web.yaml", SERVICE, "n1").expect("valid YAML");
    assert_eq!(objects(&contents), ["Service default/web", "EndpointSlice default/web-1"]);
    assert_eq!(contents.faults, []);
    assert_eq!(resolved(contents), ["10.244.1.2:8080"], "the port has no name on either side");
}

#[test]
fn a_list_of_json_with_tabs_and_other_kinds() {
    let text = r#"{
	"apiVersion": "v1",
	"items": [
		{"apiVersion": "apps/v1", "kind": "Deployment", "spec": {"replicas": 3}},
		{"apiVersion": "serving.knative.dev/v1", "kind": "Service", "metadata": {"name": "other"}},
		{"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n2"}},
		{"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n1"}},
		{"apiVersion": "networking.k8s.io/v1", "kind": "ServiceCIDR", "metadata": {"name": "a"}, "spec": {"cidrs": ["10.96.0.0/16"]}}
	],
	"kind": "List"
}"#;
    let contents = read("list.json", text, "n1").expect("valid JSON");
    assert_eq!(objects(&contents), ["Node n1", "ServiceCIDR a"]);
    assert_eq!((contents.ignored, contents.faults.len()), (3, 0), "the other kinds, and the other node");
}

#[test]
fn an_object_that_cannot_be_read_is_told_with_line_and_field_and_leaves_the_others() {
    let text = format!(
        "{SERVICE}---\napiVersion: v1\nkind: Service\nmetadata: {{name: bad}}\nspec:\n  ports:\n  - port: eighty\n"
    );
    let contents = read("web.yaml", &text, "n1").expect("valid YAML");
    assert_eq!(contents.objects.len(), 2);
    assert_eq!(contents.broken.iter().map(ToString::to_string).collect::<Vec<_>>(), ["Service default/bad"]);
    let said: Vec<_> = contents.faults.iter().map(ToString::to_string).collect();
    assert_eq!(
        said,
        [
            "spec.ports[0].port of Service default/bad (web.yaml:23) cannot be read: invalid type: string \"eighty\", expected i64"
        ]
    );
}

#[test]
fn a_field_that_cannot_be_used_is_told_with_its_line() {
    let text = SERVICE.replace("port: 80\n", "port: 80\n    nodePort: 70000\n").replace("10.244.1.2", "10.244.1.299");
    let contents = read("web.yaml", &text, "n1").expect("valid YAML");
    let faults = contents.objects.iter().flat_map(|(_, event)| match event {
        Event::Set(_, faults) | Event::Unset(_, faults) => faults.clone(),
        _ => Vec::new(),
    });
    let said: Vec<_> = faults.map(|fault| fault.to_string()).collect();
    assert_eq!(
        said,
        [
            "spec.ports[0].nodePort of Service default/web (web.yaml:8) is 70000: it must be from 1 to 65535",
            "endpoints[0].addresses[0] of EndpointSlice default/web-1 (web.yaml:17) is \"10.244.1.299\": \
             it must be an address, like 10.96.0.10 or fd00:10::10",
        ]
    );
}

#[test]
fn a_text_that_is_no_yaml_is_refused_as_a_whole_with_its_line() {
    let error = read("web.yaml", &format!("{SERVICE}---\nkind: x\n  spec: y\n"), "n1").expect_err("bad indentation");
    assert!(error.to_string().starts_with("web.yaml:19 is not valid: "), "{error}");
    for empty in ["", "---\n", "# nothing\n", "---\n---\n"] {
        assert!(read("web.yaml", empty, "n1").is_ok_and(|contents| contents.objects.is_empty()), "{empty:?}");
    }
}

#[test]
fn what_is_no_object_and_what_is_twice_is_told() {
    let contents = read("web.yaml", &format!("{SERVICE}---\n- 1\n---\n{SERVICE}"), "n1").expect("valid YAML");
    let said: Vec<_> = contents.faults.iter().map(ToString::to_string).collect();
    assert_eq!(contents.objects.len(), 2);
    assert_eq!(
        said,
        [
            "web.yaml:18 has no kind: it must be a Kubernetes object",
            "Service default/web (web.yaml:20) is in the file twice, and the first one counts",
            "EndpointSlice default/web-1 (web.yaml:28) is in the file twice, and the first one counts",
        ]
    );
}

#[test]
fn a_large_file_is_read() {
    let mut text = String::new();
    for n in 0..500 {
        let _ = writeln!(text, "{}---", SERVICE.replace("web", &format!("web{n}")));
    }
    assert_eq!(read("web.yaml", &text, "n1").expect("valid YAML").objects.len(), 1000);
}

#[test]
fn aliases_do_not_multiply_without_bound() {
    let mut text = "a: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
    for n in 1..12 {
        let _ = writeln!(text, "b{n}: &a{n} [{}]", vec![format!("*a{}", n - 1); 10].join(", "));
    }
    assert!(read("web.yaml", &text, "n1").is_err());
}

fn value() -> impl Strategy<Value = serde_json::Value> {
    let leaf = prop_oneof![
        Just(serde_json::Value::Null),
        any::<bool>().prop_map(Into::into),
        any::<i64>().prop_map(Into::into),
        any::<f64>().prop_map(Into::into),
        prop::sample::select(vec!["10.0.0.1", "fd00::1", "10.0.0.0/8", "TCP", "Local", "ClientIP", "IPv4", "None", ""])
            .prop_map(Into::into),
        ".{0,8}".prop_map(Into::into),
    ];
    let keys = prop::sample::select(vec![
        "name",
        "namespace",
        "labels",
        "spec",
        "status",
        "clusterIP",
        "clusterIPs",
        "ports",
        "port",
        "nodePort",
        "protocol",
        "externalIPs",
        "loadBalancer",
        "ingress",
        "ip",
        "endpoints",
        "addresses",
        "conditions",
        "ready",
        "hints",
        "forZones",
        "addressType",
        "cidrs",
        "items",
        "kubernetes.io/service-name",
        "sessionAffinityConfig",
        "clientIP",
        "timeoutSeconds",
        "loadBalancerSourceRanges",
        "creationTimestamp",
    ]);
    leaf.prop_recursive(5, 64, 6, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..5).prop_map(Into::into),
            prop::collection::vec((keys.clone(), inner), 0..6).prop_map(|entries| entries
                .into_iter()
                .map(|(key, value)| (key.to_owned(), value))
                .collect::<serde_json::Map<_, _>>()
                .into()),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn no_object_makes_a_panic(
        kind in prop::sample::select(vec![
            "v1 Service", "discovery.k8s.io/v1 EndpointSlice", "v1 Node", "networking.k8s.io/v1 ServiceCIDR", "v1 List",
        ]),
        spec in value(), ports in value(), endpoints in value(), labels in value(),
    ) {
        let (version, kind) = kind.split_once(' ').expect("two words");
        let object = serde_json::json!({
            "apiVersion": version, "kind": kind, "metadata": {"name": "n1", "labels": labels}, "spec": spec, "items": ports,
            "addressType": "IPv4", "ports": ports, "endpoints": endpoints, "status": spec,
        });
        if let Ok(contents) = read("any.json", &object.to_string(), "n1") {
            let mut services = Services::new("n1");
            for (name, event) in contents.objects {
                if let Event::Set(object, _) = &event {
                    prop_assert_eq!(object.name(), name);
                    if let Object::Service(service) = object {
                        prop_assert!(!service.ports.is_empty());
                    }
                }
                services.apply(event);
            }
        }
    }

    #[test]
    fn no_text_makes_a_panic(
        text in "(apiVersion: v1\n|kind: (Service|List)\n|spec: |ports:|\n|- |  |[a-z]{1,3}: |[\\[\\]{}\"']|&a |\\*a|---\n|[0-9]{1,3}|\\PC){0,40}",
    ) {
        let _ = read("any.yaml", &text, "n1");
    }
}
