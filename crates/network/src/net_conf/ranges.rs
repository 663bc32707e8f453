//! The pods' ranges of `net-conf.json`, the same rules for both families.
//!
//! Pure.

use std::net::IpAddr;

use dataplane::types::{self, Family, PerFamily, Prefix};

use super::{NetConfError, NetworkRange};
use crate::caseless::Object;
use crate::text::printable;

/// What flannel calls a family's fields, and its defaults.
struct Terms {
    family: Family,
    enable: &'static str,
    enabled: bool,
    network: &'static str,
    len: &'static str,
    min: &'static str,
    max: &'static str,
    /// The length of a node's subnet, where the network has room for four of them.
    usual_len: u8,
    /// A network, for messages.
    example: &'static str,
}

const TERMS: [Terms; 2] = [
    Terms {
        family: Family::V4,
        enable: "EnableIPv4",
        enabled: true,
        network: "Network",
        len: "SubnetLen",
        min: "SubnetMin",
        max: "SubnetMax",
        usual_len: 24,
        example: "10.244.0.0/16",
    },
    Terms {
        family: Family::V6,
        enable: "EnableIPv6",
        enabled: false,
        network: "IPv6Network",
        len: "IPv6SubnetLen",
        min: "IPv6SubnetMin",
        max: "IPv6SubnetMax",
        usual_len: 64,
        example: "fd00:10:244::/48",
    },
];

/// Takes the fields of both families out of the configuration.
pub(super) fn take(conf: &mut Object) -> Result<PerFamily<NetworkRange>, NetConfError> {
    let mut networks = PerFamily::none();
    for terms in &TERMS {
        let enabled = conf.take(terms.enable, "true or false")?.unwrap_or(terms.enabled);
        let given = Given::take(conf, terms)?;
        if enabled {
            *networks.slot(terms.family) = Some(given.judge(terms)?);
        }
    }
    if networks.is_empty() { Err(NetConfError::NoStack) } else { Ok(networks) }
}

/// A family's fields, with the right JSON types. Those of a family that is off must have these too.
struct Given {
    network: Option<Prefix>,
    len: Option<i64>,
    min: Option<IpAddr>,
    max: Option<IpAddr>,
}

impl Given {
    fn take(conf: &mut Object, terms: &Terms) -> Result<Self, NetConfError> {
        let example = format!("an {} range like {}", terms.family, terms.example);
        let network: Option<String> = conf.take(terms.network, &example)?;
        let parse = |text: String| match text.parse::<Prefix>() {
            Ok(network) if network.family() == terms.family => Ok(network),
            _ => {
                let problem = format!("invalid {} CIDR format", terms.family);
                Err(NetConfError::value(problem, terms.network, &format!("\"{}\"", printable(&text)), &example))
            }
        };
        let network = network.filter(|text| !text.is_empty()).map(parse).transpose()?;
        let len = conf.take(terms.len, "a whole number")?.filter(|&len| len != 0);
        let is_of_family = |address: &IpAddr| Family::of(*address) == terms.family;
        let mut address = |field| conf.take_if(field, &format!("an {} address", terms.family), is_of_family);
        Ok(Self { network, len, min: address(terms.min)?, max: address(terms.max)? })
    }

    fn judge(self, terms: &Terms) -> Result<NetworkRange, NetConfError> {
        let network = self.network.ok_or_else(|| {
            let problem = format!("please define a correct {} parameter in the flannel config", terms.network);
            let allowed = format!("an {} range like {}, or set {} to false", terms.family, terms.example, terms.enable);
            NetConfError::value(problem, terms.network, "missing", &allowed)
        })?;
        let subnet_len = subnet_len(terms, network, self.len)?;
        let size = 1_u128 << (terms.family.bits() - subnet_len);
        let fault = |problem: String, field: &str, address: IpAddr| {
            let allowed = format!("the first address of a /{subnet_len} inside {network}");
            NetConfError::value(problem, field, &address, &allowed)
        };
        let subnet = |field: &str, address: IpAddr| {
            if !network.contains(address) {
                return Err(fault(format!("{field} is not in the range of the {}", terms.network), field, address));
            }
            let subnet = Prefix::new(address, subnet_len).filter(|subnet| subnet.address() == address);
            subnet.ok_or_else(|| fault(format!("{field} is not on a SubnetLen boundary: {address}"), field, address))
        };
        // The first subnet is left out unless asked for, as flannel does: its .0 looks like the network's own address.
        let min = subnet(terms.min, self.min.unwrap_or(types::address(terms.family, network.first() + size)))?;
        let max = subnet(terms.max, self.max.unwrap_or(types::address(terms.family, network.last() - size + 1)))?;
        if min > max {
            return Err(fault(format!("{} comes after {}", terms.min, terms.max), terms.min, min.address()));
        }
        Ok(NetworkRange { network, subnet_len, min, max })
    }
}

/// The length of a node's subnet: long enough for four of them, short enough for two pods.
fn subnet_len(terms: &Terms, network: Prefix, given: Option<i64>) -> Result<u8, NetConfError> {
    let (bits, least) = (terms.family.bits(), network.len() + 2);
    let most = bits - 2;
    if least > most {
        let problem = match terms.family {
            Family::V4 => "network is too small. Minimum useful network prefix is /28",
            Family::V6 => "IPv6Network is too small. Minimum useful network prefix is /124",
        };
        let allowed = format!("an {} range of /{} or larger", terms.family, bits - 4);
        return Err(NetConfError::value(problem, terms.network, &network, &allowed));
    }
    let Some(len) = given else { return Ok(terms.usual_len.max(least)) };
    if let Some(len) = u8::try_from(len).ok().filter(|len| (least..=most).contains(len)) {
        return Ok(len);
    }
    let problem = if len > i64::from(most) {
        format!("SubnetLen must be less than /{}", most + 1)
    } else {
        "network must be able to accommodate at least four subnets".to_owned()
    };
    let allowed = format!("a whole number from {least} to {most} in {} {network}", terms.network);
    Err(NetConfError::value(problem, terms.len, &len, &allowed))
}
