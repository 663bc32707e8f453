//! Requests to etcd with a deadline, over one connection to the first endpoint that answers.
//!
//! A thin layer over [`etcd_client`], which has no deadline that covers a whole call, reads certificates once, and does not say which
//! endpoint failed. Here each connection reads the certificates again, and a request that an endpoint does not answer is sent to the
//! next one.

use std::error::Error as _;
use std::sync::Arc;
use std::time::Duration;

use etcd_client::{
    Channel, Compare, CompareOp, ConnectOptions, Error, GetOptions, PutOptions, ResponseHeader, Txn, TxnOp,
    WatchOptions, WatchResponse, WatchStream,
};
use network::chain;
use tokio::sync::Mutex;
use tokio::time::timeout;
use tonic::{Code, Status};

use super::endpoint::EndpointError;
use super::key_value::KeyValue;
use crate::config::EtcdConfig;
use crate::store::StoreError;

/// The deadline of one request at one endpoint.
const DEADLINE: Duration = Duration::from_secs(5);
/// The size limit of a response: thousands of nodes fit into one list.
const LARGEST: usize = 64 * 1024 * 1024;

/// Why a request failed.
#[derive(Debug, thiserror::Error)]
pub(super) enum CallError {
    /// An endpoint does not answer, or none does: another connection may succeed.
    #[error("no endpoint answers ({0})")]
    Unreachable(String),
    /// An endpoint's URL or a certificate file is invalid.
    #[error(transparent)]
    Endpoint(#[from] EndpointError),
    /// etcd refuses the request.
    #[error("it answers: {0}")]
    Refused(String),
    /// etcd refuses the user.
    #[error("it answers: {0}")]
    Forbidden(String),
}

impl CallError {
    /// What a person can do.
    pub(super) fn advice(&self) -> &'static str {
        match self {
            CallError::Unreachable(_) => "is etcd running, and is it what --etcd-endpoints names?",
            CallError::Endpoint(_) => "correct the flag or the file",
            CallError::Refused(_) => "see etcd's log",
            CallError::Forbidden(_) => {
                "compare --etcd-username and --etcd-password with etcd's users; the user's role must read and write all below --etcd-prefix"
            }
        }
    }

    /// The error of an operation that reads `key`.
    pub(super) fn reading(self, key: &str) -> StoreError {
        StoreError::read(format!("etcd's {key}"), self.advice(), self)
    }

    /// The error of an operation that writes `key`.
    pub(super) fn writing(self, key: &str) -> StoreError {
        StoreError::write(format!("etcd's {key}"), self.advice(), self)
    }
}

/// The client of one etcd cluster. Clones share the connection.
#[derive(Clone)]
pub(super) struct Client {
    pub(super) config: Arc<EtcdConfig>,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    /// The index of the endpoint to try first.
    next: usize,
    connection: Option<Connection>,
    /// The number of the last connection.
    number: u64,
}

#[derive(Clone)]
struct Connection {
    /// Distinguishes connections, so that a late failure of an old one does not close its successor.
    number: u64,
    url: String,
    etcd: etcd_client::Client,
}

impl Client {
    /// Checks the endpoints and reads the certificate files. The first request connects.
    pub(super) fn new(config: EtcdConfig) -> Result<Self, EndpointError> {
        config.endpoints.iter().try_for_each(|url| config.endpoint(url).map(drop))?;
        Ok(Self { config: Arc::new(config), state: Arc::default() })
    }

    /// Reads one key.
    pub(super) async fn get(&self, key: &str) -> Result<Option<KeyValue>, StoreError> {
        Ok(self.range(key, GetOptions::new()).await.map_err(|error| error.reading(key))?.0.pop())
    }

    /// Reads all keys that begin with `prefix`, and the revision of that state.
    pub(super) async fn list(&self, prefix: &str) -> Result<(Vec<KeyValue>, i64), CallError> {
        self.range(prefix, GetOptions::new().with_prefix()).await
    }

    async fn range(&self, key: &str, options: GetOptions) -> Result<(Vec<KeyValue>, i64), CallError> {
        let read = |Connection { etcd, .. }| {
            let mut client = etcd.kv_client().max_decoding_message_size(LARGEST);
            let options = options.clone();
            async move { client.get(key, Some(options)).await }
        };
        let response = self.call(read).await?;
        let revision = response.header().map_or(0, ResponseHeader::revision);
        Ok((response.kvs().iter().filter_map(KeyValue::new).collect(), revision))
    }

    /// Creates a key that expires with `lease`. False where the key exists already.
    pub(super) async fn create(&self, key: &str, value: &str, lease: i64) -> Result<bool, StoreError> {
        let put = TxnOp::put(key, value, Some(PutOptions::new().with_lease(lease)));
        self.write_if(key, Compare::create_revision(key, CompareOp::Equal, 0), put).await
    }

    /// Writes another value; the key keeps its lease. False where the key has changed since it was read.
    pub(super) async fn replace(&self, stored: &KeyValue, value: &str) -> Result<bool, StoreError> {
        let put = TxnOp::put(stored.key.as_str(), value, Some(PutOptions::new().with_ignore_lease()));
        self.write_if(&stored.key, unchanged(stored), put).await
    }

    /// Deletes a key. False where the key has changed since it was read.
    pub(super) async fn delete(&self, stored: &KeyValue) -> Result<bool, StoreError> {
        self.write_if(&stored.key, unchanged(stored), TxnOp::delete(stored.key.as_str(), None)).await
    }

    async fn write_if(&self, key: &str, condition: Compare, write: TxnOp) -> Result<bool, StoreError> {
        let txn = Txn::new().when([condition]).and_then([write]);
        let write = |Connection { mut etcd, .. }| {
            let txn = txn.clone();
            async move { etcd.txn(txn).await }
        };
        Ok(self.call(write).await.map_err(|error| error.writing(key))?.succeeded())
    }

    /// Creates a lease of `ttl` seconds; gives its id.
    pub(super) async fn grant(&self, ttl: i64) -> Result<i64, CallError> {
        let grant = |Connection { mut etcd, .. }| async move { etcd.lease_grant(ttl, None).await };
        Ok(self.call(grant).await?.id())
    }

    pub(super) async fn revoke(&self, lease: i64) -> Result<(), CallError> {
        self.call(|Connection { mut etcd, .. }| async move { etcd.lease_revoke(lease).await }).await.map(drop)
    }

    /// Renews a lease; gives its remaining seconds, 0 or less where the lease has expired.
    pub(super) async fn keep_alive(&self, lease: i64) -> Result<i64, CallError> {
        let renew = |Connection { mut etcd, .. }| async move {
            match etcd.lease_keep_alive(lease).await {
                // etcd-client does not give the seconds in the first response. The stream of renewals ends here: the next renewal is
                // due in hours.
                Ok(_) => Ok(etcd.lease_time_to_live(lease, None).await?.ttl()),
                Err(Error::LeaseKeepAliveError(_)) => Ok(0),
                Err(error) => Err(error),
            }
        };
        self.call(renew).await
    }

    /// Watches all keys that begin with `prefix`, from a revision on.
    pub(super) async fn watch(&self, prefix: &str, revision: i64) -> Result<Watch, CallError> {
        let options = WatchOptions::new().with_prefix().with_start_revision(revision);
        let watch = |Connection { number, etcd, .. }| {
            let mut client = etcd.watch_client().max_decoding_message_size(LARGEST);
            let options = options.clone();
            async move { Ok(Watch { connection: number, stream: client.watch(prefix, Some(options)).await? }) }
        };
        self.call(watch).await
    }

    /// Closes a connection, unless it has been replaced already. The next request makes another one.
    pub(super) async fn close(&self, connection: u64) {
        let mut state = self.state.lock().await;
        if state.connection.as_ref().is_some_and(|current| current.number == connection) {
            state.connection = None;
            state.next += 1;
        }
    }

    /// Sends a request to one endpoint after the other until one answers.
    async fn call<T, F>(&self, request: impl Fn(Connection) -> F) -> Result<T, CallError>
    where
        F: Future<Output = Result<T, Error>>,
    {
        let mut reason = String::new();
        // Each endpoint once, and two more tries: the existing connection may be broken, and its token may have expired.
        for _ in 0..self.config.endpoints.len() + 2 {
            let connection = self.connection().await?;
            let (number, url) = (connection.number, connection.url.clone());
            match self.within_deadline(Box::pin(request(connection))).await {
                Err(CallError::Unreachable(error)) => {
                    reason = format!("{url}: {error}");
                    self.close(number).await;
                }
                result => return result,
            }
        }
        Err(CallError::Unreachable(reason))
    }

    async fn within_deadline<T>(&self, answer: impl Future<Output = Result<T, Error>>) -> Result<T, CallError> {
        match timeout(DEADLINE, answer).await {
            Ok(answer) => answer.map_err(|error| self.classify(&error)),
            Err(_) => Err(CallError::Unreachable(format!("no answer within {} s", DEADLINE.as_secs()))),
        }
    }

    /// The current connection, or a new one.
    async fn connection(&self) -> Result<Connection, CallError> {
        let mut state = self.state.lock().await;
        if let Some(connection) = &state.connection {
            return Ok(connection.clone());
        }
        let endpoints = &self.config.endpoints;
        let mut reasons = Vec::new();
        for offset in 0..endpoints.len() {
            let index = (state.next + offset) % endpoints.len();
            let url = &endpoints[index];
            // Boxed, as the login and the requests are: the client's futures have many kilobytes.
            match Box::pin(self.connect(url)).await {
                Ok(etcd) => {
                    state.next = index;
                    state.number += 1;
                    let connection = Connection { number: state.number, url: url.clone(), etcd };
                    state.connection = Some(connection.clone());
                    return Ok(connection);
                }
                Err(CallError::Unreachable(reason)) => reasons.push(format!("{url}: {reason}")),
                Err(error) => return Err(error),
            }
        }
        Err(CallError::Unreachable(reasons.join("; ")))
    }

    /// Connects to an endpoint and logs the user in.
    async fn connect(&self, url: &str) -> Result<etcd_client::Client, CallError> {
        let channel = self.config.endpoint(url)?.connect().await;
        let channel = channel.map_err(|error| CallError::Unreachable(chain(&error)))?;
        // A member that has lost its cluster must fail instead of being silent.
        let options = ConnectOptions::new().with_require_leader(true);
        let connect = |options| etcd_client::Client::from_channel(Channel::Tonic(channel.clone()), Some(options));
        let Some((name, password)) = &self.config.login else {
            return self.within_deadline(connect(options)).await;
        };
        let as_user = options.clone().with_user(name, password).with_auto_token_refresh(true);
        let log_in = async {
            match connect(as_user).await {
                Err(Error::GRpcStatus(status)) if status.message().contains("authentication is not enabled") => {
                    connect(options).await
                }
                result => result,
            }
        };
        self.within_deadline(Box::pin(log_in)).await
    }

    fn classify(&self, error: &Error) -> CallError {
        let Error::GRpcStatus(status) = error else { return CallError::Unreachable(error.to_string()) };
        let message = status.message().to_owned();
        let says = |text: &str| status.code() == Code::InvalidArgument && message.contains(text);
        match status.code() {
            // The token is invalid: another connection brings another token.
            _ if says("revision of auth store is old") => CallError::Unreachable(describe(status)),
            // Users were enabled after this connection was made.
            _ if says("user name is empty") && self.config.login.is_some() => CallError::Unreachable(describe(status)),
            _ if says("authentication failed") || says("user name is empty") => CallError::Forbidden(message),
            Code::PermissionDenied => CallError::Forbidden(message),
            Code::Unauthenticated
            | Code::Unavailable
            | Code::DeadlineExceeded
            | Code::Cancelled
            | Code::Unknown
            | Code::Internal => CallError::Unreachable(describe(status)),
            _ => CallError::Refused(message),
        }
    }
}

/// The condition that nobody has written the key since it was read.
fn unchanged(stored: &KeyValue) -> Compare {
    Compare::mod_revision(stored.key.as_str(), CompareOp::Equal, stored.mod_revision)
}

/// A stream of changes.
pub(super) struct Watch {
    /// The number of its connection, for [`Client::close`].
    pub(super) connection: u64,
    stream: WatchStream,
}

impl Watch {
    /// The next changes, or the reason why the stream has ended.
    pub(super) async fn next(&mut self) -> Result<WatchResponse, String> {
        match self.stream.message().await {
            Ok(Some(response)) => Ok(response),
            Ok(None) => Err("etcd ended the watch".to_owned()),
            Err(Error::GRpcStatus(status)) => Err(describe(&status)),
            Err(error) => Err(error.to_string()),
        }
    }
}

/// A status as text for a person.
fn describe(status: &Status) -> String {
    match status.source() {
        Some(source) => format!("{}: {}", status.message(), chain(source)),
        None => status.message().to_owned(),
    }
}
