//! Why a request to the API server has failed, and what a person can do about it.

use std::error::Error;
use std::time::Duration;

use kube::core::Status;
use kube::runtime::watcher;
use tower::BoxError;

/// What rustls says of a certificate that is not valid yet or not valid any more.
const OUT_OF_DATE: [&str; 2] = ["certificate expired", "certificate not valid yet"];
/// The longest `Retry-After` that is obeyed.
const LONGEST_DELAY: Duration = Duration::from_mins(5);

/// Why a request to the API server has failed.
#[derive(Debug, thiserror::Error)]
pub enum ApiError {
    /// There is no usable address or kubeconfig.
    #[error("it is not known how to reach the API server")]
    Config(#[source] BoxError),
    /// No connection, or it broke.
    #[error("the API server cannot be reached")]
    Transport(#[source] BoxError),
    /// No answer in time.
    #[error("the API server has not answered within {} s", .0.as_secs())]
    Late(Duration),
    /// The API server refuses the request.
    #[error("the API server says {code}: {message}")]
    Refused {
        /// The status code of HTTP.
        code: u16,
        /// The API server's message, on one line.
        message: String,
        /// `Retry-After`: when the request may be sent again.
        retry_after: Option<Duration>,
    },
    /// The answer is not one of the API.
    #[error("the API server's answer makes no sense")]
    Garbage(#[source] BoxError),
}

/// What a person types or changes so that a program reaches the API server and may do its work: each a text of that program's.
#[derive(Debug, Clone, Copy)]
pub struct Remedies {
    /// Where there is no usable address or kubeconfig.
    pub config: &'static str,
    /// Where nothing answers.
    pub unreachable: &'static str,
    /// Where the program lacks a right.
    pub forbidden: &'static str,
    /// Where something else than an API server answers.
    pub other_server: &'static str,
}

impl ApiError {
    /// What a person can do about the error.
    pub fn advice(&self, remedies: &Remedies) -> &'static str {
        match self {
            Self::Config(_) => remedies.config,
            Self::Transport(error) if OUT_OF_DATE.iter().any(|words| chain(error.as_ref()).contains(words)) => {
                "its certificate is not valid at what this node takes for the time: compare the outputs of date -u here and on the control plane, and where they differ set this node's clock (timedatectl set-ntp true); where they do not, renew the API server's certificate (kubeadm certs renew apiserver)"
            }
            Self::Transport(error) if chain(error.as_ref()).contains("certificate") => {
                "its certificate is not accepted: put the certificate authority that the API server's certificate is of now into the file that the kubeconfig names or the ServiceAccount's ca.crt; the file is read again without a restart"
            }
            Self::Transport(_) | Self::Late(_) => remedies.unreachable,
            Self::Refused { code: 401, .. } => {
                "see that the ServiceAccount is still there, that its token is mounted and renewed, and that this node's clock is right"
            }
            Self::Refused { code: 403, .. } => remedies.forbidden,
            Self::Refused { code: 404, .. } => "there is no such object",
            Self::Refused { code: 429, .. } => "it has too much to do, and is asked again later",
            Self::Refused { code: 410, .. } => {
                "the version that was last seen is too old: the objects are listed again"
            }
            Self::Refused { code: 500.., .. } => "look at its log, and whether its etcd is well",
            Self::Refused { .. } => "look at its log",
            Self::Garbage(_) => remedies.other_server,
        }
    }

    /// The status code of a refusal.
    pub fn code(&self) -> Option<u16> {
        if let Self::Refused { code, .. } = self { Some(*code) } else { None }
    }

    /// When the API server wants the request again, at most five minutes from now.
    pub fn retry_after(&self) -> Option<Duration> {
        let Self::Refused { retry_after, .. } = self else { return None };
        retry_after.map(|delay| delay.min(LONGEST_DELAY))
    }

    /// True where the same request may succeed later without anybody's help.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Refused { code, .. } => matches!(code, 409 | 429 | 500..),
            Self::Transport(_) | Self::Late(_) | Self::Garbage(_) => true,
            Self::Config(_) => false,
        }
    }

    /// True where newer credentials may help.
    pub(crate) fn is_of_credentials(&self) -> bool {
        matches!(self, Self::Config(_) | Self::Transport(_)) || self.code() == Some(401)
    }

    /// The refusal that an answer with this code, `Retry-After` and body is.
    pub(crate) fn of_answer(code: u16, retry_after: Option<u64>, body: &[u8]) -> Self {
        let status: Status = serde_json::from_slice(body).unwrap_or_default();
        let text = if status.message.is_empty() { String::from_utf8_lossy(body) } else { (&*status.message).into() };
        // The list of roles that the API server has looked at helps nobody who must grant one.
        let text = if code == 403 { text.split(": RBAC: [").next().unwrap_or_default() } else { &*text };
        Self::refused(code, text, retry_after, &status)
    }

    /// The refusal of this status, unless `retry_after` says otherwise how many seconds to wait.
    fn refused(code: u16, text: &str, retry_after: Option<u64>, status: &Status) -> Self {
        let in_status = status.details.as_ref().map(|details| details.retry_after_seconds.into());
        let seconds = retry_after.or(in_status.filter(|seconds| *seconds > 0));
        // A foreign text as a message can show it: one line of at most 300 characters.
        let words = text.split(|c: char| c.is_whitespace() || c.is_control()).filter(|word| !word.is_empty());
        let message = words.collect::<Vec<_>>().join(" ").chars().take(300).collect();
        Self::Refused { code, message, retry_after: seconds.map(Duration::from_secs) }
    }
}

impl From<Status> for ApiError {
    fn from(status: Status) -> Self {
        Self::refused(status.code, &status.message, None, &status)
    }
}

impl From<kube::Error> for ApiError {
    fn from(error: kube::Error) -> Self {
        match error {
            // The connection's own errors pass through kube-rs.
            kube::Error::Service(inner) => inner.downcast().map_or_else(Self::Transport, |own| *own),
            kube::Error::HyperError(inner) => Self::Transport(inner.into()),
            kube::Error::ReadEvents(inner) => Self::Transport(inner.into()),
            kube::Error::Api(status) => Self::from(*status),
            kube::Error::BuildRequest(inner) => Self::Config(inner.into()),
            kube::Error::SerdeError(inner) => Self::Garbage(inner.into()),
            other => Self::Garbage(other.into()),
        }
    }
}

impl From<watcher::Error> for ApiError {
    fn from(error: watcher::Error) -> Self {
        match error {
            watcher::Error::InitialListFailed(inner)
            | watcher::Error::WatchStartFailed(inner)
            | watcher::Error::WatchFailed(inner) => inner.into(),
            watcher::Error::WatchError(status) => Self::from(*status),
            watcher::Error::NoResourceVersion => Self::Garbage(error.into()),
        }
    }
}

/// An error with its causes, on one line.
pub fn chain(error: &dyn Error) -> String {
    let causes = std::iter::successors(Some(error), |&error| error.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

#[cfg(test)]
mod tests;
