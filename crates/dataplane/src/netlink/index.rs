//! A link's index by its name: the ioctl of netdevice(7), in the namespace of the socket that it is called on.

use std::os::fd::AsRawFd;

use nix::errno::Errno;
use nix::libc;

use super::RouteSocket;
use crate::error::KernelError;
use crate::netlink_socket::SocketError;
use crate::types::IfName;

impl RouteSocket {
    /// The index of the link of this name; `None` where there is none. Costs less than reading the whole link: a run of a few ops looks up each device once.
    pub fn index(&self, name: &IfName) -> Result<Option<u32>, KernelError> {
        let mut request = request(name);
        #[expect(unsafe_code, reason = "ioctl")]
        // SAFETY: the kernel reads and writes an `ifreq`, which outlives the call; the index is what it writes.
        let (result, index) = unsafe {
            let call = libc::SIOCGIFINDEX as libc::Ioctl;
            (libc::ioctl(self.inner.inner.as_raw_fd(), call, &raw mut request), request.ifr_ifru.ifru_ifindex)
        };
        match Errno::result(result) {
            Ok(_) => Ok(u32::try_from(index).ok()),
            Err(Errno::ENODEV) => Ok(None),
            Err(errno) => Err(SocketError { action: "ask for a link's index", source: errno.into() }.into()),
        }
    }
}

/// What ioctl(2) is given about a device.
pub(crate) fn request(device: &IfName) -> libc::ifreq {
    let mut name = [0; libc::IFNAMSIZ];
    for (place, byte) in name.iter_mut().zip(device.as_str().bytes()) {
        *place = byte.cast_signed();
    }
    libc::ifreq { ifr_name: name, ifr_ifru: libc::__c_anonymous_ifr_ifru { ifru_ifindex: 0 } }
}
