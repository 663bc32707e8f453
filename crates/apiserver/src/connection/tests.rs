use k8s_openapi::api::networking::v1::ServiceCIDR;

use super::*;
use crate::fake;

#[tokio::test]
async fn an_api_server_says_whether_it_has_a_kind() {
    let resource =
        |name: &str| format!(r#"{{"name":"{name}","singularName":"","namespaced":false,"kind":"K","verbs":[]}}"#);
    let list = |names: &[&str]| {
        let resources = names.iter().map(|name| resource(name)).collect::<Vec<_>>().join(",");
        let head = r#""kind":"APIResourceList","apiVersion":"v1","groupVersion":"networking.k8s.io/v1""#;
        (200, format!(r#"{{{head},"resources":[{resources}]}}"#))
    };
    for (answer, expected) in [
        (list(&["ingresses", "servicecidrs"]), Ok(true)),
        (list(&["ingresses", "servicecidrs/status"]), Ok(false)),
        (fake::refusal(404, "no such group"), Ok(false)),
        (fake::refusal(503, "it begins"), Err(Some(503))),
    ] {
        let (url, requests) = fake::serve(vec![answer]).await;
        let server = ApiServer::new(Address { url: Some(url), kubeconfig: None }, "test/1");
        assert_eq!(server.has_kind::<ServiceCIDR>().await.map_err(|error| error.code()), expected);
        assert_eq!(requests.await.expect("the answer")[0].line, "GET /apis/networking.k8s.io/v1");
    }
}
