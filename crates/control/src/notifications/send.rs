//! Posting to addresses that people typed in: which of them may be reached, and how it is shown
//! that a message is ours.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use forebay_types::{Error, Millis, Result, hex};
use hmac::{Hmac, Mac};
use reqwest::Url;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use serde_json::Value;
use sha2::Sha256;

use super::destination::Config;

/// For the whole of one delivery: a receiver should answer first and work then.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Where a cloud tells its machines who they are, outside the link-local addresses.
const METADATA: Ipv6Addr = Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254);

/// Which addresses may be reached.
///
/// Only administrators define destinations, and nothing of an answer is shown but its status. Still
/// the server's own machine is closed by default, with its link-local neighbours: services that
/// trust their host (this one's API, a cloud's metadata) listen there. Private networks are open,
/// since that is where a team's own receivers are.
#[derive(Debug, Clone)]
struct Guard {
    /// Address and length of the prefix.
    allowed: Vec<(IpAddr, u8)>,
}

impl Guard {
    fn parse(allowed: &[String]) -> Result<Self> {
        let range = |text: &String| {
            let (address, length) = match text.split_once('/') {
                Some((address, length)) => (address, length.parse::<u8>().ok()),
                None => (text.as_str(), Some(128)),
            };
            let range = address.parse::<IpAddr>().ok().zip(length);
            range.ok_or_else(|| {
                Error::invalid(format!(
                    "notifications.allow_addresses: '{text}' is no address, such as 127.0.0.1 or \
                     10.0.0.0/8."
                ))
            })
        };
        let allowed = allowed.iter().map(range).collect::<Result<_>>()?;
        Ok(Self { allowed })
    }

    fn may_reach(&self, address: IpAddr) -> bool {
        let address = match address {
            IpAddr::V6(v6) => v6
                .to_ipv4_mapped()
                .or_else(|| translated(v6))
                .map_or(address, IpAddr::V4),
            IpAddr::V4(_) => address,
        };
        let closed = match address {
            IpAddr::V4(v4) => {
                v4.is_loopback()
                    || v4.is_link_local()
                    || v4.is_unspecified()
                    || v4.is_multicast()
                    || v4 == Ipv4Addr::BROADCAST
            }
            IpAddr::V6(v6) => {
                v6.is_loopback()
                    || v6.is_unspecified()
                    || v6.is_multicast()
                    || v6.is_unicast_link_local()
                    || v6 == METADATA
            }
        };
        !closed || self.allowed.iter().any(|range| within(address, *range))
    }
}

/// The address behind a NAT64 of the well-known prefix, 64:ff9b::/96.
fn translated(address: Ipv6Addr) -> Option<Ipv4Addr> {
    let [a, b, 0, 0, 0, 0, high, low] = address.segments() else {
        return None;
    };
    let bits = u32::from(high) << 16 | u32::from(low);
    ((a, b) == (0x64, 0xff9b)).then(|| Ipv4Addr::from(bits))
}

fn within(address: IpAddr, (base, length): (IpAddr, u8)) -> bool {
    let bits = |address: Ipv6Addr, shift: u32| u128::from(address).checked_shr(shift);
    match (address, base) {
        (IpAddr::V4(address), IpAddr::V4(base)) => {
            let shift = 32_u32.saturating_sub(length.into());
            u32::from(address).checked_shr(shift) == u32::from(base).checked_shr(shift)
        }
        (IpAddr::V6(address), IpAddr::V6(base)) => {
            let shift = 128_u32.saturating_sub(length.into());
            bits(address, shift) == bits(base, shift)
        }
        _ => false,
    }
}

/// Gives only addresses that may be reached, so that a name cannot point elsewhere by the time of
/// the connection.
struct Resolver(Arc<Guard>);

impl Resolve for Resolver {
    fn resolve(&self, name: Name) -> Resolving {
        let guard = Arc::clone(&self.0);
        Box::pin(async move {
            let found = tokio::net::lookup_host((name.as_str(), 0)).await?;
            let open: Vec<SocketAddr> = found.filter(|at| guard.may_reach(at.ip())).collect();
            if open.is_empty() {
                return Err(closed(name.as_str()).into());
            }
            Ok::<Addrs, Box<dyn std::error::Error + Send + Sync>>(Box::new(open.into_iter()))
        })
    }
}

fn closed(host: &str) -> String {
    format!("{host} is an address that notifications may not reach (see allow_addresses)")
}

/// Posts messages. Cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct Sender {
    http: reqwest::Client,
    guard: Arc<Guard>,
}

impl Sender {
    pub(super) fn new(allowed: &[String]) -> Result<Self> {
        let guard = Arc::new(Guard::parse(allowed)?);
        let http = reqwest::Client::builder()
            .timeout(TIMEOUT)
            // A redirect could lead where the guard would not let us go.
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .dns_resolver(Arc::new(Resolver(Arc::clone(&guard))))
            .user_agent(concat!("forebay/", env!("CARGO_PKG_VERSION")))
            .build()
            .map_err(|e| Error::internal("cannot make an HTTP client", e))?;
        Ok(Self { http, guard })
    }

    /// # Errors
    /// When `url` is none that can be posted to.
    pub(super) fn check(&self, url: &str) -> Result<()> {
        let parsed = Url::parse(url).ok();
        let parsed = parsed.filter(|url| matches!(url.scheme(), "http" | "https"));
        let Some(parsed) = parsed.filter(Url::has_host) else {
            let message = "The url of a destination must begin with http:// or https://.";
            return Err(Error::invalid(message));
        };
        match literal(&parsed) {
            Some(address) if !self.guard.may_reach(address) => {
                let message = format!(
                    "The url of a destination: {}.",
                    closed(&address.to_string())
                );
                Err(Error::invalid(message))
            }
            _ => Ok(()),
        }
    }

    /// Posts `body`, and returns why it was not taken, if it was not.
    pub(super) async fn post(
        &self,
        config: &Config,
        delivery: &str,
        body: &Value,
        now: Millis,
    ) -> Option<String> {
        // Rows of an earlier configuration may name what is closed by now.
        if let Err(refused) = self.check(config.url()) {
            return Some(refused.message);
        }
        let text = body.to_string();
        let mut request = self
            .http
            .post(config.url())
            .header("Content-Type", "application/json")
            .header("X-Forebay-Delivery", delivery);
        if let Config::GenericWebhook {
            username,
            password,
            signing_key,
            ..
        } = config
        {
            request = request.header("X-Forebay-Signature", signature(signing_key, &text, now));
            if let Some(username) = username {
                request = request.basic_auth(username, password.as_ref());
            }
        }
        match request.body(text).send().await {
            Ok(answer) if answer.status().is_success() => None,
            Ok(answer) => Some(format!("the receiver answered {}", answer.status())),
            // Without the address, which may be a secret.
            Err(error) => Some(chain(&error.without_url())),
        }
    }
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(next) = cause {
        text = format!("{text}: {next}");
        cause = next.source();
    }
    text
}

fn literal(url: &Url) -> Option<IpAddr> {
    let host = url.host_str()?;
    host.trim_matches(['[', ']']).parse().ok()
}

/// `t=SECONDS,v1=HEX`: HMAC-SHA256 of `SECONDS.BODY` under the destination's key. The time is part of
/// what is signed, so that an old message cannot be sent again by somebody who saw it.
fn signature(key: &str, body: &str, now: Millis) -> String {
    let seconds = now.0 / 1000;
    // A key of any length is a key to HMAC, so there is no other case.
    let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(key.as_bytes()) else {
        return String::new();
    };
    mac.update(format!("{seconds}.{body}").as_bytes());
    let signature = hex(mac.finalize().into_bytes());
    format!("t={seconds},v1={signature}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn guard(allowed: &[&str]) -> Guard {
        let allowed: Vec<_> = allowed.iter().map(ToString::to_string).collect();
        Guard::parse(&allowed).unwrap()
    }

    #[test]
    fn the_own_machine_and_its_neighbours_are_closed_unless_allowed() {
        let usual = guard(&[]);
        let may = |guard: &Guard, text: &str| guard.may_reach(text.parse().unwrap());
        for closed in [
            "127.0.0.1",
            "127.8.9.1",
            "0.0.0.0",
            "169.254.169.254",
            "::1",
            "::ffff:127.0.0.1",
            "fe80::1",
            "224.0.0.1",
            "fd00:ec2::254",
            "64:ff9b::7f00:1",
            "64:ff9b::169.254.169.254",
        ] {
            assert!(!may(&usual, closed), "{closed}");
        }
        for open in [
            "10.1.2.3",
            "192.168.0.7",
            "93.184.216.34",
            "2606:2800:220:1::1",
            "fd00:ec2::255",
            "64:ff9b::10.1.2.3",
        ] {
            assert!(may(&usual, open), "{open}");
        }
        let more = guard(&["127.0.0.0/8", "::1"]);
        assert!(may(&more, "127.8.9.1") && may(&more, "::1"));
        assert!(!may(&more, "169.254.169.254"));
        assert!(Guard::parse(&["localhost".to_owned()]).is_err());
    }

    #[tokio::test]
    async fn a_name_of_the_own_machine_is_closed_as_well() {
        let sender = Sender::new(&[]).unwrap();
        assert!(sender.check("http://127.0.0.1:9/x").is_err());
        assert!(sender.check("http://[::1]:9/x").is_err());
        assert!(sender.check("ftp://example.com").is_err());
        assert!(
            sender.check("http://localhost:9/x").is_ok(),
            "not known before it is looked up"
        );
        let config = Config::Slack {
            url: "http://localhost:9/x".to_owned(),
        };
        let refused = sender.post(&config, "id", &Value::Null, Millis(0)).await;
        assert!(refused.unwrap().contains("may not reach"));
    }

    #[test]
    fn signatures_are_of_time_and_body() {
        let expected = "t=1700000000,v1=";
        let signed = signature("key", "{}", Millis(1_700_000_000_999));
        assert!(signed.starts_with(expected) && signed.len() == expected.len() + 64);
        assert_ne!(signed, signature("key", "{ }", Millis(1_700_000_000_999)));
        assert_ne!(signed, signature("other", "{}", Millis(1_700_000_000_999)));
    }
}
