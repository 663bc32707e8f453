//! Whether netd in a Pod reaches the API server only through the Service that netd itself is to serve. Pure.

use crate::problem::{Kind, Problem};

/// What the kubelet or the manifest says of the API server: `KUBERNETES_SERVICE_HOST`, which the manifest may replace by the API server's own
/// address, and `KUBERNETES_PORT`, which is the Service's, as in `tcp://10.96.0.1:443`.
pub(super) fn problem(host: Option<&str>, service: Option<&str>) -> Option<Problem> {
    let (host, service) = (host?, service?);
    let (address, _) = service.strip_prefix("tcp://")?.rsplit_once(':')?;
    if address.trim_matches(['[', ']']) != host.trim_matches(['[', ']']) {
        return None;
    }
    let detail = format!(
        "is reached at {host}, the address of its Service, which netd serves: after a reboot of the node nothing leads there, \
         and the node gets no network"
    );
    let remedy = "create the ConfigMap kubernetes-services-endpoint with the API server's own address (manifests/README.md, Services), \
                  or start kube-proxy";
    Some(Problem::new(Kind::ApiServerByService, "the API server", detail).with_remedy(remedy))
}

#[cfg(test)]
mod tests;
