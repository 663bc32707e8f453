//! Messages as bytes. The suite `leftovers` has them understood by a kernel with IPVS.

use super::*;
use crate::netlink_message::HEADER_BYTES;

fn server(address: &str, protocol: u8) -> VirtualServer {
    VirtualServer { address: address.parse().expect("an address and a port"), protocol }
}

/// The message in which a virtual server is written.
fn message(server: &VirtualServer) -> Vec<u8> {
    let mut writer = Writer::default();
    writer.message((30, 0, 1), (command::GET_SERVICE, 0), |writer| server.write(writer));
    writer.bytes
}

#[test]
fn a_virtual_server_is_written_as_it_is_read() {
    for server in [server("10.96.0.1:443", 6), server("[fd00::1]:53", 17)] {
        assert_eq!(VirtualServer::read(&message(&server)), Some(server));
    }
    let bytes = message(&server("10.96.0.1:443", 6));
    // Family and protocol in the host's byte order, the port in the network's.
    let expected = [2_u16.to_ne_bytes(), 6_u16.to_ne_bytes(), [10, 96], [0, 1], 443_u16.to_be_bytes()];
    let values = [12, 20, 28, 30, 36].map(|place| {
        let place = HEADER_BYTES + place;
        [bytes[place], bytes[place + 1]]
    });
    assert_eq!(values, expected);
}

#[test]
fn a_server_by_mark_and_torn_bytes_are_none() {
    let mut writer = Writer::default();
    writer.message((30, 0, 1), (command::GET_SERVICE, 0), |writer| {
        writer.nest(command::SERVICE, |writer| {
            writer.put(service::FAMILY, &V4.to_ne_bytes());
            writer.put(5, &7_u32.to_ne_bytes());
        });
    });
    assert_eq!(VirtualServer::read(&writer.bytes), None);
    let whole = message(&server("[fd00::1]:53", 17));
    for length in 0..whole.len() {
        assert_eq!(VirtualServer::read(&whole[..length]), None, "{length} bytes");
    }
}
