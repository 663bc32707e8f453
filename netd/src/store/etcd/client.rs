//! Requests to etcd: one connection, to whichever endpoint answers, with the user's token where there is a user.
//!
//! It decides nothing about what is asked. A request that found no endpoint has been tried at each.

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use hyper::http::uri::PathAndQuery;
use network::chain;
use tokio::sync::Mutex;
use tokio::time::timeout;
use tonic::client::Grpc;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::transport::Channel;
use tonic::{Code, Request, Status, Streaming};
use tonic_prost::ProstCodec;

use super::options::OptionsError;
use super::wire::{
    AuthenticateRequest, AuthenticateResponse, LeaseGrantRequest, LeaseGrantResponse, LeaseKeepAliveRequest,
    LeaseKeepAliveResponse, LeaseRevokeRequest, LeaseRevokeResponse, RangeRequest, RangeResponse, TxnRequest,
    TxnResponse, WatchCreateRequest, WatchRequest, WatchResponse,
};
use crate::config::EtcdConfig;

/// How long one answer may take.
const ANSWER: Duration = Duration::from_secs(5);
/// Thousands of nodes fit into one answer.
const LARGEST: usize = 64 * 1024 * 1024;

/// Why etcd did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub(super) enum CallError {
    /// Nobody answers.
    #[error("no endpoint answers ({0})")]
    Unreachable(String),
    /// The files or flags do not allow a connection.
    #[error(transparent)]
    Options(#[from] OptionsError),
    /// It answers with a refusal.
    #[error("it answers: {0}")]
    Refused(String),
    /// The user may not.
    #[error("it answers: {0}")]
    Forbidden(String),
}

impl CallError {
    /// What a person can do.
    pub(super) fn advice(&self) -> &'static str {
        match self {
            CallError::Unreachable(_) => "is etcd running, and is it what --etcd-endpoints names?",
            CallError::Options(_) => "correct the flag or the file",
            CallError::Refused(_) => "see etcd's log",
            CallError::Forbidden(_) => {
                "compare --etcd-username and --etcd-password with etcd's users; the user's role must read and write all below --etcd-prefix"
            }
        }
    }
}

/// The way to etcd. Clones share it.
#[derive(Debug, Clone)]
pub(super) struct Client {
    pub(super) options: Arc<EtcdConfig>,
    link: Arc<Mutex<Link>>,
}

#[derive(Debug, Default)]
struct Link {
    /// The endpoint to try first.
    next: usize,
    connection: Option<Connection>,
    /// Counts connections, so that nobody drops one that another request has made since.
    made: u64,
}

#[derive(Debug, Clone)]
struct Connection {
    number: u64,
    url: String,
    channel: Channel,
    /// `None` before it was asked for.
    token: Option<Token>,
}

/// What a user's requests bear; `None` where etcd knows no users.
type Token = Option<MetadataValue<Ascii>>;

/// What a failed request means.
enum Failure {
    /// Another endpoint, or another connection, may answer.
    Lost(String),
    /// The token is too old.
    Token,
    Final(CallError),
}

impl Client {
    /// Checks that the files can be read; connects when first asked.
    pub(super) fn new(options: EtcdConfig) -> Result<Self, OptionsError> {
        options.endpoints.iter().try_for_each(|url| options.endpoint(url).map(drop))?;
        Ok(Self { options: Arc::new(options), link: Arc::default() })
    }

    pub(super) async fn range(&self, request: RangeRequest) -> Result<RangeResponse, CallError> {
        self.ask("/etcdserverpb.KV/Range", request).await
    }

    pub(super) async fn txn(&self, request: TxnRequest) -> Result<TxnResponse, CallError> {
        self.ask("/etcdserverpb.KV/Txn", request).await
    }

    pub(super) async fn grant(&self, ttl: i64) -> Result<i64, CallError> {
        let granted: LeaseGrantResponse = self.ask("/etcdserverpb.Lease/LeaseGrant", LeaseGrantRequest { ttl }).await?;
        Ok(granted.id)
    }

    pub(super) async fn revoke(&self, id: i64) -> Result<(), CallError> {
        let _: LeaseRevokeResponse = self.ask("/etcdserverpb.Lease/LeaseRevoke", LeaseRevokeRequest { id }).await?;
        Ok(())
    }

    /// Renews a lease; the seconds that it has now, or 0 where it has ended.
    pub(super) async fn keep_alive(&self, id: i64) -> Result<i64, CallError> {
        let path = "/etcdserverpb.Lease/LeaseKeepAlive";
        let request = LeaseKeepAliveRequest { id };
        let answer: LeaseKeepAliveResponse =
            self.with_connection(|connection| first_of(connection, path, request)).await?;
        Ok(answer.ttl)
    }

    /// Follows all that changes below `key` up to `range_end` from a revision on.
    pub(super) async fn watch(&self, create: WatchCreateRequest) -> Result<Watch, CallError> {
        let request = WatchRequest { create: Some(create) };
        self.with_connection(|connection| {
            let request = request.clone();
            async move {
                let number = connection.number;
                // The stream to etcd stays open as long as the receiver of its answers lives.
                let (keep, requests) = tokio::sync::mpsc::channel(1);
                // There is room for one.
                let _ = keep.try_send(request);
                let mut request = authorised(tokio_stream_of(requests), connection.token.flatten().as_ref());
                // A member that has lost its cluster must say so instead of being silent.
                request.metadata_mut().insert("hasleader", MetadataValue::from_static("true"));
                let mut grpc = ready(connection.channel).await?;
                let path = PathAndQuery::from_static("/etcdserverpb.Watch/Watch");
                let answers = grpc.streaming(request, path, ProstCodec::default()).await?.into_inner();
                Ok(Watch { number, answers, _keep: keep })
            }
        })
        .await
    }

    /// Another connection is made for the next request, unless that has happened already.
    pub(super) async fn drop_connection(&self, number: u64) {
        let mut link = self.link.lock().await;
        if link.connection.as_ref().is_some_and(|connection| connection.number == number) {
            link.connection = None;
            link.next += 1;
        }
    }

    async fn ask<Q, A>(&self, path: &'static str, request: Q) -> Result<A, CallError>
    where
        Q: prost::Message + Clone + 'static,
        A: prost::Message + Default + 'static,
    {
        self.with_connection(|connection| once(connection, path, request.clone())).await
    }

    /// Tries a request at each endpoint until one answers.
    async fn with_connection<T, F>(&self, mut request: impl FnMut(Connection) -> F) -> Result<T, CallError>
    where
        F: Future<Output = Result<T, Status>>,
    {
        let mut said = String::new();
        // Two more than there are endpoints: a connection from before may have gone, and a token ended.
        for _ in 0..self.options.endpoints.len() + 2 {
            let connection = self.connection().await?;
            let (number, url) = (connection.number, connection.url.clone());
            let answer = timeout(ANSWER, request(connection)).await;
            let failure = match answer {
                Ok(Ok(answer)) => return Ok(answer),
                Ok(Err(status)) => judge(&status),
                Err(_) => Failure::Lost(format!("no answer within {} s", ANSWER.as_secs())),
            };
            match failure {
                Failure::Final(error) => return Err(error),
                Failure::Token => {
                    said = format!("{url}: its token was refused");
                    if let Some(connection) = &mut self.link.lock().await.connection {
                        connection.token = None;
                    }
                }
                Failure::Lost(why) => {
                    said = format!("{url}: {why}");
                    self.drop_connection(number).await;
                }
            }
        }
        Err(CallError::Unreachable(said))
    }

    /// The connection, made anew where there is none.
    async fn connection(&self) -> Result<Connection, CallError> {
        let mut link = self.link.lock().await;
        if link.connection.is_none() {
            self.connect(&mut link).await?;
        }
        let Some(connection) = &mut link.connection else { return Err(CallError::Unreachable(String::new())) };
        if let Some((name, password)) = self.options.login.clone().filter(|_| connection.token.is_none()) {
            connection.token = match log_in(connection.clone(), name, password).await {
                Ok(token) => Some(token),
                Err(Failure::Lost(why)) => {
                    link.connection = None;
                    link.next += 1;
                    return Err(CallError::Unreachable(why));
                }
                Err(Failure::Token) => return Err(CallError::Forbidden("the token is refused".to_owned())),
                Err(Failure::Final(error)) => return Err(error),
            };
        }
        Ok(connection.clone())
    }

    async fn connect(&self, link: &mut Link) -> Result<(), CallError> {
        let mut said = Vec::new();
        let endpoints = &self.options.endpoints;
        for turn in 0..endpoints.len() {
            let url = &endpoints[(link.next + turn) % endpoints.len()];
            match self.options.endpoint(url)?.connect().await {
                Ok(channel) => {
                    link.next = (link.next + turn) % endpoints.len();
                    link.made += 1;
                    let (number, url) = (link.made, url.clone());
                    link.connection = Some(Connection { number, url, channel, token: None });
                    return Ok(());
                }
                Err(error) => said.push(format!("{url}: {}", chain(&error))),
            }
        }
        Err(CallError::Unreachable(said.join("; ")))
    }
}

/// A stream of changes.
#[derive(Debug)]
pub(super) struct Watch {
    number: u64,
    answers: Streaming<WatchResponse>,
    _keep: tokio::sync::mpsc::Sender<WatchRequest>,
}

impl Watch {
    /// The connection that it comes over, for [`Client::drop_connection`].
    pub(super) fn connection(&self) -> u64 {
        self.number
    }

    /// The next answer, or why there are no more.
    pub(super) async fn next(&mut self) -> Result<WatchResponse, String> {
        match self.answers.message().await {
            Ok(Some(answer)) => Ok(answer),
            Ok(None) => Err("etcd ended the watch".to_owned()),
            Err(status) => Err(said(&status)),
        }
    }
}

async fn ready(channel: Channel) -> Result<Grpc<Channel>, Status> {
    let mut grpc = Grpc::new(channel).max_decoding_message_size(LARGEST);
    grpc.ready().await.map_err(|error| Status::unavailable(chain(&error)))?;
    Ok(grpc)
}

fn authorised<T>(message: T, token: Option<&MetadataValue<Ascii>>) -> Request<T> {
    let mut request = Request::new(message);
    if let Some(token) = token {
        request.metadata_mut().insert("token", token.clone());
    }
    request
}

async fn once<Q, A>(connection: Connection, path: &'static str, message: Q) -> Result<A, Status>
where
    Q: prost::Message + 'static,
    A: prost::Message + Default + 'static,
{
    let request = authorised(message, connection.token.flatten().as_ref());
    let mut grpc = ready(connection.channel).await?;
    let answer = grpc.unary(request, PathAndQuery::from_static(path), ProstCodec::default()).await?;
    Ok(answer.into_inner())
}

/// The first answer of a method that answers to a stream with a stream.
async fn first_of<Q, A>(connection: Connection, path: &'static str, message: Q) -> Result<A, Status>
where
    Q: prost::Message + Send + 'static,
    A: prost::Message + Default + Send + 'static,
{
    let request = authorised(futures_util::stream::iter([message]), connection.token.flatten().as_ref());
    let mut grpc = ready(connection.channel).await?;
    let mut answers =
        grpc.streaming(request, PathAndQuery::from_static(path), ProstCodec::default()).await?.into_inner();
    answers.message().await?.ok_or_else(|| Status::unavailable("etcd ended the stream"))
}

/// What comes into a channel, as a stream.
fn tokio_stream_of<T>(receiver: tokio::sync::mpsc::Receiver<T>) -> impl futures_util::Stream<Item = T> {
    futures_util::stream::unfold(receiver, |mut receiver| async move { Some((receiver.recv().await?, receiver)) })
}

async fn log_in(connection: Connection, name: String, password: String) -> Result<Token, Failure> {
    let request = AuthenticateRequest { name, password };
    let answer = timeout(ANSWER, once(connection, "/etcdserverpb.Auth/Authenticate", request)).await;
    let answer: AuthenticateResponse = match answer {
        Ok(Ok(answer)) => answer,
        Ok(Err(status)) if status.message().contains("authentication is not enabled") => return Ok(None),
        Ok(Err(status)) => return Err(judge(&status)),
        Err(_) => return Err(Failure::Lost(format!("no answer within {} s", ANSWER.as_secs()))),
    };
    MetadataValue::try_from(answer.token)
        .map(Some)
        .map_err(|error| Failure::Final(CallError::Refused(error.to_string())))
}

fn judge(status: &Status) -> Failure {
    let message = status.message();
    match status.code() {
        Code::Unauthenticated => Failure::Token,
        Code::InvalidArgument if message.contains("revision of auth store is old") => Failure::Token,
        Code::InvalidArgument
            if message.contains("authentication failed") || message.contains("user name is empty") =>
        {
            Failure::Final(CallError::Forbidden(message.to_owned()))
        }
        Code::PermissionDenied => Failure::Final(CallError::Forbidden(message.to_owned())),
        Code::Unavailable | Code::DeadlineExceeded | Code::Cancelled | Code::Unknown | Code::Internal => {
            Failure::Lost(said(status))
        }
        _ => Failure::Final(CallError::Refused(message.to_owned())),
    }
}

/// A status for a person.
fn said(status: &Status) -> String {
    match status.source() {
        Some(source) => format!("{}: {}", status.message(), chain(source)),
        None => status.message().to_owned(),
    }
}
