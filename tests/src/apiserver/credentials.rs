//! Who is who to an API server: an authority, certificates and keys from `openssl`, tokens, kubeconfigs.

use std::fmt::Write as _;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use crate::failure::{Context, Outcome};
use crate::namespace::Namespace;

const ADMIN: &str = "admin-token";

/// All events but those of the administrator and of the API server itself, without what was in them.
const AUDIT: &str = "\
apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules:
- level: None
  users: [admin, 'system:apiserver', 'system:kube-controller-manager', 'system:kube-scheduler']
- level: Metadata
";

/// The files below one folder that an API server and its clients need.
#[derive(Debug)]
pub struct Credentials {
    folder: PathBuf,
}

impl Credentials {
    /// Makes all of them, for a server at these addresses and nodes of these names.
    pub(super) fn make(namespace: &Namespace, folder: &Path, addresses: &[IpAddr], nodes: &[&str]) -> Outcome<Self> {
        // The first Service is the API server itself.
        let mut names = "DNS:localhost,DNS:kubernetes,DNS:kubernetes.default,DNS:kubernetes.default.svc,\
                         DNS:kubernetes.default.svc.cluster.local,IP:127.0.0.1,IP:::1,IP:10.96.0.1,IP:fd00:10:96::1"
            .to_owned();
        for address in addresses {
            let _ = write!(names, ",IP:{address}");
        }
        let script = format!(
            r#"cd {folder}
            key='-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes'
            openssl req -x509 $key -days 2 -keyout ca.key -out ca.pem -subj /CN=netd-tests 2>/dev/null
            sign() {{
                openssl req $key -keyout $1.key -out $1.csr -subj "$2" 2>/dev/null
                printf 'subjectAltName=%s\nextendedKeyUsage=serverAuth,clientAuth\n' "$3" >$1.ext
                openssl x509 -req -in $1.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 -extfile $1.ext -out $1.pem 2>/dev/null
            }}
            sign server /CN=kube-apiserver {names}
            sign kubelet-client /O=system:masters/CN=kube-apiserver-kubelet-client DNS:localhost
            openssl genrsa -out accounts.key 2048 2>/dev/null
            openssl rsa -in accounts.key -pubout -out accounts.pub 2>/dev/null"#,
            folder = folder.display()
        );
        namespace.shell(&script)?;
        let write = |name: &str, text: &str| std::fs::write(folder.join(name), text).context(format!("write {name}"));
        write("audit.yml", AUDIT)?;
        let mut tokens = format!("{ADMIN},admin,admin,\"system:masters\"\n");
        for user in ["system:kube-controller-manager", "system:kube-scheduler"] {
            let _ = writeln!(tokens, "{},{user},{user},\"system:masters\"", Self::control_token(user));
        }
        let proxy = "system:kube-proxy";
        let _ = writeln!(tokens, "{},{proxy},{proxy}", Self::control_token(proxy));
        for node in nodes {
            let _ = writeln!(tokens, "{},system:node:{node},{node},\"system:nodes\"", Self::node_token(node));
        }
        write("tokens.csv", &tokens)?;
        let made = Self { folder: folder.to_owned() };
        Ok(made)
    }

    /// What lets in as the administrator.
    pub fn admin_token() -> &'static str {
        ADMIN
    }

    /// What lets in as `system:node:NAME`.
    pub fn node_token(node: &str) -> String {
        format!("token-of-{node}")
    }

    /// What lets in as a program of Kubernetes' own.
    pub fn control_token(user: &str) -> String {
        format!("token-of-{}", user.replace(':', "-"))
    }

    /// A file of these: `ca.pem`, `accounts.key`, ...
    pub fn file(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// Makes another certificate authority, `NAME.pem` and `NAME.key`.
    ///
    /// # Errors
    /// Where `openssl` fails.
    pub fn add_authority(&self, namespace: &Namespace, name: &str) -> Outcome {
        let script = format!(
            "cd {folder} && openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 \
             -keyout {name}.key -out {name}.pem -subj /CN={name} 2>/dev/null",
            folder = self.folder.display()
        );
        namespace.shell(&script).map(drop)
    }

    /// Gives the server another certificate, for the key that it has: of this authority, and valid between two times as `date -d` reads
    /// them.
    ///
    /// # Errors
    /// Where `openssl` fails.
    pub fn renew_server(&self, namespace: &Namespace, authority: &str, valid: (&str, &str)) -> Outcome {
        // `openssl x509` lets nobody choose the beginning before 3.4.
        let script = format!(
            r#"set -e; cd {folder}
            at() {{ date -u -d "$1" +%Y%m%d%H%M%SZ; }}
            printf '[ca]\ndefault_ca=it\n[it]\ndatabase=%s\nnew_certs_dir=.\nrand_serial=yes\ndefault_md=sha256\nunique_subject=no\npolicy=any\n[any]\ncommonName=supplied\n' renewed.txt >renewed.cnf
            : >renewed.txt
            openssl ca -batch -notext -config renewed.cnf -cert {authority}.pem -keyfile {authority}.key -in server.csr \
                -extfile server.ext -startdate "$(at '{begin}')" -enddate "$(at '{end}')" -out renewed.pem 2>renewed.log || {{ cat renewed.log >&2; exit 1; }}
            mv renewed.pem server.pem"#,
            folder = self.folder.display(),
            begin = valid.0,
            end = valid.1,
        );
        namespace.shell(&script).map(drop)
    }

    pub(super) fn write_kubeconfig(&self, path: &Path, url: &str, token: &str) -> Outcome {
        let text = format!(
            "apiVersion: v1\nkind: Config\ncurrent-context: it\n\
             clusters: [{{name: it, cluster: {{server: '{url}', certificate-authority: {ca}}}}}]\n\
             users: [{{name: it, user: {{token: '{token}'}}}}]\n\
             contexts: [{{name: it, context: {{cluster: it, user: it}}}}]\n",
            ca = self.file("ca.pem").display()
        );
        // By rename, as a program that reads it anew must find it whole.
        let growing = path.with_extension("growing");
        std::fs::write(&growing, text).context("write a kubeconfig")?;
        std::fs::rename(&growing, path).context("put a kubeconfig in its place")
    }
}
