//! What a URL says.

use larder_core::{Error, Result};
use redis::{ConnectionAddr, ConnectionInfo, IntoConnectionInfo};

use super::address::{Address, Place};
use crate::login::{Credentials, Secret};

pub(super) const DEFAULT_PORT: u16 = 6379;
pub(super) const SENTINEL_PORT: u16 = 26379;

const SINGLE_FORM: &str = "write it as redis://[user:password@]host[:port][/database] or unix:///path";
const SENTINEL_FORM: &str = "write it as redis-sentinel://[user:password@]host[:port],host[:port]/database#service";
const CLUSTER_FORM: &str = "write it as redis-cluster://[user:password@]host[:port],host[:port]";

#[derive(Debug, Default)]
pub(super) struct FromUrl {
    pub(super) place: Option<Place>,
    pub(super) database: u32,
    pub(super) login: Credentials,
    pub(super) tls: bool,
}

/// Errors say which part is wrong without repeating the URL, which may hold a password.
pub(super) fn parse(url: &str) -> Result<FromUrl> {
    let Some((scheme, rest)) = url.split_once("://") else {
        // Also `unix:` and `redis+unix:` followed by a path.
        return single(url, false);
    };
    match scheme {
        "rediss" | "valkeys" => single(&format!("redis://{rest}"), true),
        "redis-sentinel" | "valkey-sentinel" => sentinel(rest, false),
        "rediss-sentinel" | "valkeys-sentinel" => sentinel(rest, true),
        "redis-cluster" | "valkey-cluster" => cluster(rest, false),
        "rediss-cluster" | "valkeys-cluster" => cluster(rest, true),
        _ => single(url, false),
    }
}

fn single(url: &str, tls: bool) -> Result<FromUrl> {
    let info = library(url, SINGLE_FORM)?;
    let address = match info.addr() {
        ConnectionAddr::Tcp(host, port) => Address::tcp(host, *port),
        ConnectionAddr::Unix(path) => Address::Unix(path.clone()),
        other => return Err(Error::config("url", format_args!("{other} is an address of a kind that is not offered"))),
    };
    Ok(FromUrl { place: Some(Place::Server(address)), tls, ..settings(&info)? })
}

fn sentinel(rest: &str, tls: bool) -> Result<FromUrl> {
    let Some((rest, service)) = rest.split_once('#').filter(|(_, service)| !service.is_empty()) else {
        let message = format_args!("the name of the service is missing behind `#`; {SENTINEL_FORM}");
        return Err(Error::config("url", message));
    };
    let (sentinels, info) = hosts(rest, SENTINEL_PORT, SENTINEL_FORM)?;
    let place = Place::Sentinel { sentinels, service: service.to_owned() };
    Ok(FromUrl { place: Some(place), tls, ..settings(&info)? })
}

fn cluster(rest: &str, tls: bool) -> Result<FromUrl> {
    let (seeds, info) = hosts(rest, DEFAULT_PORT, CLUSTER_FORM)?;
    Ok(FromUrl { place: Some(Place::Cluster { seeds }), tls, ..settings(&info)? })
}

/// The hosts of a list, and the rest of the URL as the library reads it with the first of them.
fn hosts(rest: &str, default_port: u16, form: &str) -> Result<(Vec<Address>, ConnectionInfo)> {
    let (authority, path) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
    let (login, hosts) = authority.rsplit_once('@').map_or(("", authority), |(login, hosts)| (login, hosts));
    let addresses: Vec<_> =
        hosts.split(',').map(|host| Address::parse("url", host, default_port)).collect::<Result<_>>()?;
    let at = if login.is_empty() { "" } else { "@" };
    let info = library(&format!("redis://{login}{at}{}{path}", addresses[0]), form)?;
    Ok((addresses, info))
}

fn library(url: &str, form: &str) -> Result<ConnectionInfo> {
    url.into_connection_info().map_err(|error| Error::config("url", format_args!("{error}; {form}")))
}

fn settings(info: &ConnectionInfo) -> Result<FromUrl> {
    let login = info.redis_settings();
    let database = u32::try_from(login.db())
        .map_err(|_| Error::config("url", format_args!("{} is no number of a database; 0 is the first", login.db())))?;
    let owned = |text: Option<&str>| text.filter(|text| !text.is_empty()).map(str::to_owned);
    let login = Credentials { user: owned(login.username()), password: Secret(owned(login.password())) };
    Ok(FromUrl { place: None, database, login, tls: false })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(port: u16) -> Address {
        Address::tcp("h", port)
    }

    #[test]
    fn sentinels_and_their_service_are_understood() {
        let from = parse("redis-sentinel://ada:s%3Acret@h:1,h,h:3/2#primary").unwrap();
        let sentinels = vec![at(1), at(SENTINEL_PORT), at(3)];
        assert_eq!(from.place, Some(Place::Sentinel { sentinels, service: "primary".to_owned() }));
        assert_eq!((from.database, from.tls), (2, false));
        assert_eq!(from.login, Credentials::user("ada", "s:cret"));
    }

    #[test]
    fn the_nodes_of_a_cluster_are_understood() {
        let from = parse("rediss-cluster://:p@h:1,[::1]:2").unwrap();
        assert_eq!(from.place, Some(Place::Cluster { seeds: vec![at(1), Address::tcp("::1", 2)] }));
        assert!(from.tls);
        assert_eq!(from.login, Credentials::password("p"));
        assert!(parse("valkey-cluster://h").is_ok());
    }

    #[test]
    fn tls_is_asked_for_by_the_scheme() {
        assert!(parse("rediss://h:1/3").is_ok_and(|from| from.tls && from.database == 3));
        assert!(parse("redis://h").is_ok_and(|from| !from.tls));
    }

    #[test]
    fn what_is_wrong_is_said_without_the_password() {
        for url in [
            "http://u:hunter2@h",
            "redis-sentinel://:hunter2@h:1",
            "redis-sentinel://:hunter2@h:1#",
            "redis-sentinel://:hunter2@#service",
            "redis-cluster://:hunter2@h:0",
            "redis-cluster://:hunter2@h:1,,h:2",
            "redis-cluster://:hunter2@h/x",
            "redis://:hunter2@h/-1",
        ] {
            let error = parse(url).unwrap_err().to_string();
            assert!(error.contains("`url`") && !error.contains("hunter2"), "{url}: {error}");
        }
    }
}
