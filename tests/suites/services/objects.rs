//! The objects that netd-proxy follows: one file of its directory, which is replaced as a whole at each change.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use netd_tests::{Context, Namespace, Outcome, ensure, eventually, seconds};

/// The node and the ranges of cluster IPs.
const CLUSTER: &str = r#"apiVersion: v1
kind: Node
metadata: {name: test-node, labels: {topology.kubernetes.io/zone: zone-a}}
status:
  addresses:
    - {type: InternalIP, address: "192.168.0.2"}
    - {type: InternalIP, address: "2001:db8::1"}
---
apiVersion: networking.k8s.io/v1
kind: ServiceCIDR
metadata: {name: kubernetes}
spec: {cidrs: ["172.30.0.0/16", "fd00:172:30::/112"]}
"#;

/// A Service without endpoints whose port is the number of the change: its element in the kernel shows that the change is there. It is
/// an IPv6 one, since the table of that family is written last.
pub(crate) const MARKER: &str = "fd00:172:30::ff00";

/// A folder of objects for `--services-dir`.
#[derive(Debug)]
pub(crate) struct Objects {
    folder: PathBuf,
    /// By kind, and by namespace and name.
    texts: BTreeMap<(String, String), String>,
    change: u16,
}

impl Objects {
    /// A folder with nothing but the node and the range of cluster IPs.
    pub(crate) fn new(disk: &Path) -> Outcome<Self> {
        let folder = disk.join("services");
        std::fs::create_dir(&folder).context("make a folder for objects")?;
        let mut objects = Self { folder, texts: BTreeMap::new(), change: 0 };
        objects.apply(CLUSTER)?;
        objects.publish()?;
        Ok(objects)
    }

    /// The folder.
    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Adds or replaces the objects of a text in YAML; in memory alone until [`Objects::publish`].
    pub(crate) fn apply(&mut self, text: &str) -> Outcome {
        for document in text.split("---\n") {
            let kind =
                document.lines().find_map(|line| line.strip_prefix("kind: ")).context("an object has no kind")?;
            let metadata = document.lines().find_map(|line| line.strip_prefix("metadata: ")).context("no metadata")?;
            let field = |name: &str| {
                let rest = metadata.split_once(name).map_or("", |(_, rest)| rest);
                rest.split([',', '}']).next().unwrap_or_default().trim().to_owned()
            };
            let name = format!("{}/{}", field("namespace:"), field("{name:"));
            self.texts.insert((kind.to_owned(), name), document.to_owned());
        }
        Ok(())
    }

    /// Takes an object away.
    pub(crate) fn delete(&mut self, kind: &str, name: &str) -> Outcome {
        self.texts.remove(&(kind.to_owned(), name.to_owned())).map(drop).context(format!("there is no {kind} {name}"))
    }

    /// The addresses of endpoints, each with whether it is one of this node.
    pub(crate) fn endpoints(&self) -> impl Iterator<Item = (&str, bool)> {
        self.texts.values().flat_map(|text| text.lines()).filter_map(|line| {
            let address = line.split_once("addresses: [\"")?.1.split('"').next()?;
            Some((address, line.contains("nodeName: test-node")))
        })
    }

    /// Writes what there is now.
    pub(crate) fn publish(&mut self) -> Outcome {
        self.change += 1;
        let marker = format!(
            "apiVersion: v1\nkind: Service\nmetadata: {{name: marker, namespace: marker}}\nspec:\n  clusterIP: \"{MARKER}\"\n  \
             clusterIPs: [\"{MARKER}\"]\n  ipFamilies: [IPv6]\n  ports: [{{protocol: TCP, port: {}}}]\n",
            self.change
        );
        let all: Vec<&str> = self.texts.values().map(String::as_str).chain([marker.as_str()]).collect();
        // By rename, so that no half of it is read.
        let growing = self.folder.join(".objects");
        std::fs::write(&growing, all.join("---\n")).context("write objects")?;
        std::fs::rename(&growing, self.folder.join("objects.yaml")).context("write objects")
    }

    /// Waits until the kernel has the last change.
    pub(crate) fn await_programmed(&self, node: &Namespace) -> Outcome {
        let key = format!("{MARKER} . tcp . {}", self.change);
        eventually(seconds(20), "the last change is in the kernel", || {
            let found = node.run(&format!("nft get element ip6 netd-proxy reject-services {{ {key} }}"));
            ensure!(found.is_ok(), "{key} is no element of reject-services");
            Ok(())
        })
    }
}
