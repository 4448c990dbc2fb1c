//! Addresses as limits see them: networks, the proxies that are believed, and who stands behind.

use std::net::{IpAddr, Ipv6Addr};
use std::str::FromStr;

use http::HeaderMap;

/// An address without its differences of writing; of IPv6, the /64 that a customer is given whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Neighbour(IpAddr);

impl Neighbour {
    pub fn of(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V4(v4) => Self(v4.into()),
            IpAddr::V6(v6) => {
                let [a, b, c, d, ..] = v6.segments();
                Self(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0).into())
            }
        }
    }
}

/// Addresses that share their first bits: `10.0.0.0/8`, `2001:db8::/32`, or one address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network {
    first: IpAddr,
    bits: u32,
}

/// The text is no address or network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("each is an address or a network, like 10.1.2.3 or 10.0.0.0/8")]
pub struct NoNetwork;

impl FromStr for Network {
    type Err = NoNetwork;

    fn from_str(text: &str) -> Result<Self, NoNetwork> {
        let (address, bits) = text.split_once('/').map_or((text, None), |(a, b)| (a, Some(b)));
        let first: IpAddr = address.parse().map_err(|_| NoNetwork)?;
        let most = if first.is_ipv4() { 32 } else { 128 };
        let bits = bits.map_or(Ok(most), str::parse).map_err(|_| NoNetwork)?;
        if bits > most { Err(NoNetwork) } else { Ok(Self { first, bits }) }
    }
}

impl Network {
    fn holds(self, address: IpAddr) -> bool {
        let same = |ours: u128, theirs: u128, width: u32| {
            self.bits == 0 || (ours ^ theirs) >> (width - self.bits) == 0
        };
        match (self.first, address.to_canonical()) {
            (IpAddr::V4(ours), IpAddr::V4(theirs)) => {
                same(u128::from(ours.to_bits()), u128::from(theirs.to_bits()), 32)
            }
            (IpAddr::V6(ours), IpAddr::V6(theirs)) => same(ours.to_bits(), theirs.to_bits(), 128),
            _ => false,
        }
    }
}

/// The proxies whose word on a client's address is taken.
#[derive(Clone, Debug, Default)]
pub struct Proxies(Vec<Network>);

impl Proxies {
    #[must_use]
    pub const fn new(networks: Vec<Network>) -> Self {
        Self(networks)
    }

    pub(super) fn trust(&self, address: IpAddr) -> bool {
        self.0.iter().any(|network| network.holds(address))
    }

    /// Who stands behind `peer`: read from the right, where our own proxies have written, up to the
    /// first address that is none of them. What the client wrote before that counts for nothing.
    pub(super) fn client(&self, peer: IpAddr, headers: &HeaderMap) -> IpAddr {
        if !self.trust(peer) {
            return peer;
        }
        let chain = match (headers.contains_key(PLAIN), headers.contains_key(STANDARD)) {
            (true, false) => chain(headers, PLAIN, address),
            (false, true) => chain(headers, STANDARD, forwarded_for),
            // A proxy writes one of them. Of two, the client may have written the other.
            _ => return peer,
        };
        let mut nearest = peer;
        for hop in chain.into_iter().rev() {
            let Some(hop) = hop else { return nearest };
            nearest = hop;
            if !self.trust(hop) {
                break;
            }
        }
        nearest
    }
}

const PLAIN: &str = "x-forwarded-for";
/// RFC 7239.
const STANDARD: &str = "forwarded";
/// More hops than this are not looked at.
const MOST_HOPS: usize = 32;

/// The last hops of a header that may stand several times, in order; `None` for one that is hidden
/// or damaged.
fn chain(
    headers: &HeaderMap,
    name: &str,
    read: impl Fn(&str) -> Option<IpAddr>,
) -> Vec<Option<IpAddr>> {
    let lines: Vec<_> = headers.get_all(name).iter().collect();
    let parts = lines.iter().rev().flat_map(|line| line.to_str().unwrap_or("?").rsplit(','));
    let mut hops: Vec<_> = parts.take(MOST_HOPS).map(|part| read(part.trim())).collect();
    hops.reverse();
    hops
}

/// An address, with or without a port; IPv6 with a port in brackets.
fn address(text: &str) -> Option<IpAddr> {
    let bracketed = text.strip_prefix('[').and_then(|rest| rest.split_once(']'));
    if let Some((inside, _)) = bracketed {
        return inside.parse::<Ipv6Addr>().ok().map(IpAddr::from);
    }
    let plain = text.parse::<IpAddr>().ok();
    plain.or_else(|| text.split_once(':').and_then(|(host, _)| host.parse().ok()))
}

/// The `for` of one element: `for=192.0.2.60;proto=http`, `for="[2001:db8::1]:4711"`.
fn forwarded_for(element: &str) -> Option<IpAddr> {
    let pairs = element.split(';').filter_map(|pair| pair.split_once('='));
    let mut named = pairs.filter(|(name, _)| name.trim().eq_ignore_ascii_case("for"));
    let value = named.next()?.1.trim();
    address(value.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')).unwrap_or(value))
}

#[cfg(test)]
mod tests {
    use http::{HeaderName, HeaderValue};

    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn proxies() -> Proxies {
        Proxies::new(
            ["10.0.0.0/8", "2001:db8::/32", "192.0.2.7"].map(|n| n.parse().unwrap()).into(),
        )
    }

    fn seen(peer: &str, lines: &[(&'static str, &str)]) -> IpAddr {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(HeaderName::from_static(name), HeaderValue::from_str(value).unwrap());
        }
        proxies().client(ip(peer), &headers)
    }

    #[test]
    fn networks_hold_what_they_say() {
        for (network, inside, outside) in [
            ("10.0.0.0/8", "10.255.0.1", "11.0.0.1"),
            ("192.0.2.7", "192.0.2.7", "192.0.2.8"),
            ("192.0.2.7", "::ffff:192.0.2.7", "::1"),
            ("0.0.0.0/0", "8.8.8.8", "2001:db8::1"),
            ("2001:db8::/32", "2001:db8:ffff::1", "2001:db9::1"),
            ("::/0", "::1", "1.1.1.1"),
        ] {
            let network: Network = network.parse().unwrap();
            assert!(network.holds(ip(inside)) && !network.holds(ip(outside)), "{network:?}");
        }
        for bad in ["", "10.0.0.0/33", "10.0.0/8", "::/129", "10.0.0.0/-1", "proxy.example", "/8"] {
            assert!(bad.parse::<Network>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_stranger_is_not_believed() {
        assert_eq!(seen("8.8.8.8", &[("x-forwarded-for", "1.2.3.4")]), ip("8.8.8.8"));
    }

    #[test]
    fn the_chain_is_read_from_the_right_up_to_the_first_stranger() {
        for (lines, client) in [
            (vec![("x-forwarded-for", "1.2.3.4")], "1.2.3.4"),
            (vec![("x-forwarded-for", "6.6.6.6, 1.2.3.4")], "1.2.3.4"),
            (vec![("x-forwarded-for", "6.6.6.6, 1.2.3.4, 10.1.1.1")], "1.2.3.4"),
            (vec![("x-forwarded-for", "6.6.6.6"), ("x-forwarded-for", "1.2.3.4")], "1.2.3.4"),
            (vec![("x-forwarded-for", "1.2.3.4:5678")], "1.2.3.4"),
            (vec![("x-forwarded-for", "1.2.3.4, nonsense")], "10.0.0.1"),
            (vec![("x-forwarded-for", "6.6.6.6, ?, 10.1.1.1")], "10.1.1.1"),
            (vec![("x-forwarded-for", "10.2.2.2, 10.1.1.1")], "10.2.2.2"),
            (vec![("forwarded", "for=1.2.3.4;proto=https")], "1.2.3.4"),
            (vec![("forwarded", "for=6.6.6.6, For=\"[2001:470::9]:4711\"")], "2001:470::9"),
            (vec![("forwarded", "for=_hidden")], "10.0.0.1"),
            (vec![("forwarded", "proto=https")], "10.0.0.1"),
            (vec![("forwarded", "for=1.2.3.4"), ("x-forwarded-for", "6.6.6.6")], "10.0.0.1"),
            (vec![], "10.0.0.1"),
        ] {
            assert_eq!(seen("10.0.0.1", &lines), ip(client), "{lines:?}");
        }
    }

    #[test]
    fn a_neighbour_is_an_address_or_a_customers_whole_network() {
        let of = |text| Neighbour::of(ip(text));
        assert_eq!(of("::ffff:1.2.3.4"), of("1.2.3.4"));
        assert_ne!(of("1.2.3.4"), of("1.2.3.5"));
        assert_eq!(of("2001:db8:1:2::1"), of("2001:db8:1:2:ffff::9"));
        assert_ne!(of("2001:db8:1:2::1"), of("2001:db8:1:3::1"));
    }
}
