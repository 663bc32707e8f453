use super::*;

#[test]
fn the_service_of_the_api_server_is_known_by_the_kubelets_variables() {
    let is_by_service = |host, service| problem(host, service).is_some();
    assert!(is_by_service(Some("10.96.0.1"), Some("tcp://10.96.0.1:443")));
    assert!(is_by_service(Some("fd00:10:96::1"), Some("tcp://[fd00:10:96::1]:443")));
    assert!(!is_by_service(Some("192.168.1.10"), Some("tcp://10.96.0.1:443")));
    assert!(!is_by_service(Some("api.example.com"), Some("tcp://10.96.0.1:443")));
    assert!(!is_by_service(Some("10.96.0.1"), None));
    assert!(!is_by_service(None, Some("tcp://10.96.0.1:443")));
    assert!(!is_by_service(Some("10.96.0.1"), Some("10.96.0.1")));
}
