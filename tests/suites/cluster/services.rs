//! Services by the real kube-proxy and by netd-proxy in its place, and names by `CoreDNS`, over netd's network.

use std::net::{IpAddr, SocketAddr};

use dataplane::types::Family;
use libtest_mimic::Trial;
use netd_tests::kubernetes::COREDNS;
use netd_tests::suite::test;
use netd_tests::{Context, Outcome, Stack, Topology, ensure, eventually, seconds};
use serde_json::json;

use crate::bed::Bed;
use crate::proxy;

pub(crate) fn trials() -> Vec<Trial> {
    let trial = |stack| {
        test(format!("a pod resolves a Service and reaches it on another node/{stack:?}"), move || services(stack))
    };
    [Stack::V4, Stack::V6].map(trial).into()
}

fn dns(address: IpAddr) -> String {
    format!(
        "
apiVersion: v1
kind: ServiceAccount
metadata: {{name: coredns, namespace: kube-system}}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {{name: coredns}}
rules:
- {{apiGroups: [''], resources: [endpoints, services, pods, namespaces], verbs: [list, watch]}}
- {{apiGroups: [discovery.k8s.io], resources: [endpointslices], verbs: [list, watch]}}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {{name: coredns}}
roleRef: {{apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: coredns}}
subjects: [{{kind: ServiceAccount, name: coredns, namespace: kube-system}}]
---
apiVersion: v1
kind: ConfigMap
metadata: {{name: coredns, namespace: kube-system}}
data:
  Corefile: |
    .:53 {{
      errors
      ready
      kubernetes cluster.local in-addr.arpa ip6.arpa
    }}
---
apiVersion: apps/v1
kind: Deployment
metadata: {{name: coredns, namespace: kube-system}}
spec:
  selector: {{matchLabels: {{app: coredns}}}}
  template:
    metadata: {{labels: {{app: coredns}}}}
    spec:
      serviceAccountName: coredns
      dnsPolicy: Default
      terminationGracePeriodSeconds: 0
      # Not on the node that asks.
      nodeSelector: {{kubernetes.io/hostname: n2}}
      containers:
      - name: coredns
        image: {COREDNS}
        imagePullPolicy: Never
        args: [-conf, /etc/coredns/Corefile]
        readinessProbe: {{httpGet: {{path: /ready, port: 8181}}, periodSeconds: 1}}
        volumeMounts: [{{name: config, mountPath: /etc/coredns}}]
      volumes: [{{name: config, configMap: {{name: coredns}}}}]
---
apiVersion: v1
kind: Service
metadata: {{name: kube-dns, namespace: kube-system}}
spec:
  clusterIP: '{address}'
  selector: {{app: coredns}}
  ports: [{{name: dns, port: 53, protocol: UDP}}, {{name: dns-tcp, port: 53, protocol: TCP}}]
"
    )
}

fn services(stack: Stack) -> Outcome {
    let topology = Topology::two_segments(stack);
    // netd-proxy runs there later on.
    let mut bed = if stack == Stack::V4 { Bed::without_proxy(&topology)? } else { Bed::start(&topology, stack)? };
    let server = &bed.cluster.server;
    bed.cluster.machine("n2").load(&[bed.cluster.images.coredns()?])?;
    server.apply(&dns(server.dns_address()))?;
    let web = json!({ "metadata": { "name": "web" }, "spec": {
        "selector": { "app": "pod-n3" }, "ports": [{ "port": 80, "targetPort": 8080 }] } });
    let web = server.create("/api/v1/namespaces/default/services", &web)?;
    let address: IpAddr = web["spec"]["clusterIP"].as_str().unwrap_or_default().parse().context("read a clusterIP")?;
    server
        .kubectl(&["--namespace=kube-system", "rollout", "status", "deployment/coredns", "--timeout=120s"])
        .map_err(|failure| bed.with_logs(failure))?;
    // kube-proxy and the pod's resolver take their time, each its own.
    eventually(seconds(60), "pod-n1 reaches the Service by its name", || {
        server.kubectl(&[
            "exec",
            "pod-n1",
            "--",
            "/agnhost",
            "connect",
            "web.default.svc.cluster.local:80",
            "--timeout=5s",
        ])
    })
    .map_err(|failure| bed.with_logs(failure))?;
    ensure!(stack.has(Family::of(address)), "the Service has the address {address}");
    let url = format!("http://{}/hostname", SocketAddr::new(address, 80));
    let said = bed.pods[0].namespace().run(&format!("curl --silent --fail --globoff --max-time 10 {url}"))?;
    ensure!(said == "pod-n3", "the Service's pod says that it is {said:?}");
    // Once is enough, and the cluster stands already.
    if stack == Stack::V4 { proxy::replaces_kube_proxy(&mut bed, address) } else { Ok(()) }
}
