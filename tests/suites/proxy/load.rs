//! Requests to Services of a [`Bed`](crate::bed::Bed) that go on: new connections, and one that is kept.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};

use netd_tests::repeated::{self, Repeated};
use netd_tests::{Context, Outcome};

use crate::ask::{self, Protocol};
use crate::bed::{self, Bed, NODE, NODE_PORT, OUTSIDE, POD, WEB};

/// Where words are sent back.
const ECHO: (Ipv4Addr, u16) = (Ipv4Addr::new(10, 96, 0, 7), 7);

pub(crate) struct Load(Vec<Repeated>);

impl Load {
    /// Adds the Service that sends words back. Whatever programs Services must run when the load starts.
    pub(crate) fn prepare(bed: &Bed) -> Outcome {
        let echoed = SocketAddr::new(bed::endpoint(4).ip(), ECHO.1);
        repeated::echo(bed.fabric.node("n2").namespace(), echoed)?;
        bed.add_service("echo", ECHO, 4)
    }

    /// Starts it.
    pub(crate) fn start(bed: &Bed) -> Outcome<Self> {
        let new = |namespace, from: IpAddr, to: (Ipv4Addr, u16)| {
            Repeated::start(namespace, move || {
                ask::answered(ask::ask(from, to.into(), Protocol::Tcp, ask::PATIENT)?).map(drop)
            })
        };
        let connect = || TcpStream::connect_timeout(&ECHO.into(), ask::PATIENT);
        let kept = netd_tests::eventually(netd_tests::seconds(30), "the echo Service is reached", || {
            bed.pod.within(connect)?.context("connect to the echo Service")
        })?;
        let kept = Repeated::over(&bed.pod, kept, ask::PATIENT)?;
        Ok(Self(vec![new(&bed.pod, POD, WEB), new(bed.outside(), OUTSIDE, (NODE, NODE_PORT)), kept]))
    }

    /// Waits until all connections of before are over and new ones have been made.
    pub(crate) fn goes_on(&self) -> Outcome {
        repeated::go_on(&self.0)
    }

    pub(crate) fn unharmed(self) -> Outcome {
        repeated::unharmed(self.0)
    }
}
