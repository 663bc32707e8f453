use super::*;

#[test]
fn a_refusal_says_what_the_api_server_says_on_one_line() {
    let body = br#"{"kind":"Status","code":429,"message":"busy,\n later","details":{"retryAfterSeconds":7}}"#;
    let error = ApiError::of_answer(429, None, body);
    assert_eq!(error.to_string(), "the API server says 429: busy, later");
    assert_eq!(error.retry_after(), Some(Duration::from_secs(7)));
    let error = ApiError::of_answer(429, Some(9000), b"Too many\nrequests");
    assert_eq!(error.to_string(), "the API server says 429: Too many requests");
    assert_eq!(error.retry_after(), Some(LONGEST_DELAY), "a delay has a limit");
}

#[test]
fn a_missing_right_is_named_without_the_roles_that_lack_it() {
    let body = br#"{"message":"nodes is forbidden: RBAC: [clusterrole \"a\" not found]"}"#;
    assert_eq!(ApiError::of_answer(403, None, body).to_string(), "the API server says 403: nodes is forbidden");
}

#[test]
fn the_connections_own_errors_pass_through_kube() {
    let error = kube::Error::Service(Box::new(ApiError::of_answer(410, None, b"gone")));
    assert_eq!(ApiError::from(error).code(), Some(410));
    let error = kube::Error::Service("no route".into());
    assert!(matches!(ApiError::from(error), ApiError::Transport(_)));
}
