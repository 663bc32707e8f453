//! Offloads of a device: the part of `ethtool -k` that is needed here.

use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixDatagram;

use nix::errno::Errno;
use nix::libc;

use crate::netlink::index;
use crate::types::IfName;

/// `struct ethtool_value` of `linux/ethtool.h`.
#[repr(C)]
struct EthtoolValue {
    command: u32,
    data: u32,
}

/// `ETHTOOL_GTXCSUM`: any of the `tx-checksum-...` features is on.
const GET_TX_CHECKSUM: u32 = 0x16;

/// True where the device makes the checksums of the packets that it sends (`tx-checksumming: on`).
///
/// # Errors
/// Where there is no such device, or the ioctl fails.
pub fn tx_checksum(device: &IfName) -> io::Result<bool> {
    let any = UnixDatagram::unbound()?;
    let mut value = EthtoolValue { command: GET_TX_CHECKSUM, data: 0 };
    let mut request = index::request(device);
    request.ifr_ifru.ifru_data = (&raw mut value).cast();
    #[expect(unsafe_code, reason = "ioctl")]
    // SAFETY: the kernel reads and writes an `ifreq` and the `ethtool_value` behind it; both outlive the call.
    let result = unsafe { libc::ioctl(any.as_raw_fd(), libc::SIOCETHTOOL as libc::Ioctl, &raw mut request) };
    Errno::result(result)?;
    Ok(value.data != 0)
}
