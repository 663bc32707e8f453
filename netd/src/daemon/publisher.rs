//! The lease publisher: a task of its own that writes this node's lease and reads the peers' leases, so that the daemon's loop never
//! waits for a store. It decides nothing.

use std::sync::Arc;
use std::time::Duration;

use network::model::Lease;
use network::net_conf::NetConf;
use tokio::sync::mpsc;
use tokio::task;
use tokio::time::timeout;

use super::lease_condition;
use crate::problem::Problem;
use crate::store::{LeaseRequest, Notice, Store, StoreError};

/// How long a read may take. The stores bound their writes themselves, since a write must not be given up in the middle.
const READ: Duration = Duration::from_secs(10);

/// What the publisher does for the daemon, one at a time.
#[derive(Debug)]
pub(super) enum Request {
    /// Write this node's lease.
    Write(Lease),
    /// Take this node's subnets again, which the store has lost, and write the lease.
    Restore {
        /// How to take them.
        request: LeaseRequest,
        /// The network.
        conf: Box<NetConf>,
        /// The lease.
        lease: Lease,
    },
    /// Read every node's lease.
    Read,
}

/// What came of it.
#[derive(Debug)]
pub(super) enum Answer {
    /// The store has this lease.
    Written(Lease),
    /// Every node's lease.
    Read(Vec<Arc<Lease>>),
    /// A write failed, and may have been made, or the lease could not be restored.
    WriteFailed(Problem),
    /// A read failed.
    ReadFailed(ReadError),
}

/// Why the peers' leases cannot be read.
#[derive(Debug, thiserror::Error)]
pub(super) enum ReadError {
    #[error("the store has not answered within {} s", READ.as_secs())]
    Late,
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// The daemon's end of the channels to the task. The task ends with it.
#[derive(Debug)]
pub(super) struct Publisher {
    requests: mpsc::Sender<Request>,
    answers: mpsc::Receiver<Answer>,
    notices: mpsc::UnboundedSender<Notice>,
}

impl Publisher {
    /// Starts the task. To be called within a tokio runtime.
    pub(super) fn start(store: &Arc<Store>) -> Self {
        let ((requests, mut todo), (done, answers)) = (mpsc::channel(1), mpsc::channel(1));
        let (notices, mut pending) = mpsc::unbounded_channel();
        let (store, for_notices) = (Arc::clone(store), Arc::clone(store));
        task::spawn(async move {
            while let Some(notice) = pending.recv().await {
                for_notices.notify(notice);
            }
        });
        task::spawn(async move {
            while let Some(request) = todo.recv().await {
                if done.send(answer(&store, request).await).await.is_err() {
                    return;
                }
            }
        });
        Self { requests, answers, notices }
    }

    /// Hands a request over. The last one must have been answered.
    pub(super) fn request(&self, request: Request) {
        // There is room for one, and the task lives as long as this.
        let _ = self.requests.try_send(request);
    }

    /// The next answer.
    pub(super) async fn answer(&mut self) -> Answer {
        match self.answers.recv().await {
            Some(answer) => answer,
            None => std::future::pending().await,
        }
    }

    /// Reports something about this node to those who look after the cluster.
    pub(super) fn notify(&self, notice: Notice) {
        let _ = self.notices.send(notice);
    }
}

async fn answer(store: &Store, request: Request) -> Answer {
    match request {
        Request::Write(lease) => match store.publish(&lease).await {
            Ok(()) => Answer::Written(lease),
            Err(error) => Answer::WriteFailed(lease_condition::not_published(&error)),
        },
        Request::Restore { request, conf, lease } => match restore(store, &request, &conf, &lease).await {
            Ok(true) => Answer::Written(lease),
            Ok(false) => Answer::WriteFailed(lease_condition::taken(lease.subnets)),
            Err(error) => Answer::WriteFailed(lease_condition::not_restored(&error)),
        },
        Request::Read => match timeout(READ, store.leases()).await {
            Ok(Ok(leases)) => Answer::Read(leases),
            Ok(Err(error)) => Answer::ReadFailed(error.into()),
            Err(_) => Answer::ReadFailed(ReadError::Late),
        },
    }
}

/// False where another node has the subnets.
async fn restore(store: &Store, request: &LeaseRequest, conf: &NetConf, lease: &Lease) -> Result<bool, StoreError> {
    if store.acquire(request, conf).await?.subnets != lease.subnets {
        return Ok(false);
    }
    tracing::info!("this node's lease is in the store again");
    store.publish(lease).await.map(|()| true)
}
