//! What lies on a node for a Registry, in the form that its runtime reads; and reading it back.
//!
//! containerd reads `<host>/hosts.toml`: it tries the `[host]` sections in their order and then always `server`. So the
//! last endpoint stands there, unless the name itself is to be tried, and no endpoint is tried twice. Authorities named
//! there are trusted beside those of the node.
//!
//! CRI-O reads `certs.d/<host>/ca.crt` of whatever it connects to, and learns where that is from `registries.conf.d`: the
//! mirrors in their order, then `location`, which plays the part of `server`.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use http::Uri;
use serde::Deserialize;
use toml::Value;

use super::disk::{Content, Piece, on_host};
use crate::node_access::distribution::Distribution;
use crate::node_access::plan::{PlannedHost, PlannedRegistry};

/// File with the certificates of the authorities, in a directory of either kind.
const AUTHORITIES: &str = "ca.crt";

/// File that containerd reads for a host.
const HOSTS: &str = "hosts.toml";

/// Where CRI-O looks for authorities.
const CERTIFICATES: &str = "certs.d";

/// Where CRI-O looks for registries.
const REGISTRIES: &str = "registries.conf.d";

/// An address that a runtime would try, as it stands in the files.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct Target {
    /// Scheme and authority, such as `https://10.96.0.20:5000`.
    pub url: String,
    /// Certificates of the authorities that vouch for it, as PEM; nothing if only the node's own do.
    pub authorities: Option<String>,
}

/// Where one thing is tried: scheme, and host with port.
#[derive(Clone, Debug)]
struct Place<'a> {
    url: String,
    authority: &'a str,
    is_plain: bool,
}

/// The directories below the writable one in which pieces lie; the empty one is that itself.
#[must_use]
pub fn areas(distribution: Distribution) -> &'static [&'static str] {
    if distribution == Distribution::CriO { &[CERTIFICATES, REGISTRIES] } else { &[""] }
}

/// Whether `name` can be a host of an image's name, and so part of a path.
#[must_use]
pub fn is_host(name: &str) -> bool {
    let (host, port) = match name.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, Some(port)),
        _ => (name, None),
    };
    let is_name = host.starts_with(|first: char| first.is_ascii_alphanumeric())
        && host.chars().all(|letter| letter.is_ascii_alphanumeric() || matches!(letter, '.' | '-'));
    let is_address = host
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'))
        .is_some_and(|address| address.parse::<std::net::Ipv6Addr>().is_ok());
    let is_port = port.is_none_or(|port| {
        port.chars().all(|digit| digit.is_ascii_digit()) && port.parse::<u16>().is_ok_and(|port| port > 0)
    });
    (is_name || is_address) && host.len() <= 253 && is_port
}

/// The first host or endpoint of `registry` that no file can be written for.
#[must_use]
pub fn invalid_name(registry: &PlannedRegistry) -> Option<&str> {
    let host = registry.hosts.iter().map(|host| host.name.as_str()).find(|name| !is_host(name));
    host.or_else(|| registry.endpoints.iter().map(String::as_str).find(|endpoint| place(endpoint).is_none()))
}

/// What is to lie on the node for `host` of `registry`, whose names have been checked; each piece after those that it
/// needs.
#[must_use]
pub fn pieces(distribution: Distribution, registry: &PlannedRegistry, host: &PlannedHost) -> Vec<Piece> {
    let mut places: Vec<Place<'_>> =
        registry.endpoints.iter().filter_map(|endpoint| place(endpoint)).collect();
    if host.fallback {
        let url = format!("https://{}", host.name);
        places.push(Place { url, authority: &host.name, is_plain: false });
    }
    if distribution == Distribution::CriO {
        return of_crio(registry, host, &places);
    }
    vec![of_containerd(distribution, registry, host, &places)]
}

/// What the runtime would try for `host`, read from the disk of the node; in no particular order.
#[must_use]
pub fn read_back(mount: &Path, distribution: Distribution, host: &str) -> Vec<Target> {
    let root = distribution.writable();
    let text = |path: &str| fs::read_to_string(on_host(mount, path)).ok();
    if distribution != Distribution::CriO {
        let written = text(&format!("{root}/{host}/{HOSTS}")).unwrap_or_default();
        let Ok(written) = toml::from_str::<Hosts>(&written) else { return Vec::new() };
        let server = written.server.map(|url| (url, Trust { ca: written.ca }));
        let places = written.host.into_iter().chain(server);
        let authorities = |trust: Trust| trust.ca.map(|path| text(&path).unwrap_or_default());
        return places.map(|(url, trust)| Target { url, authorities: authorities(trust) }).collect();
    }
    let written = text(&format!("{root}/{REGISTRIES}/{}", file_name(host))).unwrap_or_default();
    let Ok(written) = toml::from_str::<Registries>(&written) else { return Vec::new() };
    let places = written.registry.into_iter().flat_map(|one| one.mirror.into_iter().chain([one.own]));
    let target = |Location { location, insecure }| Target {
        authorities: text(&format!("{root}/{CERTIFICATES}/{location}/{AUTHORITIES}")).filter(|_| !insecure),
        url: format!("{}://{location}", if insecure { "http" } else { "https" }),
    };
    places.map(target).collect()
}

/// Name of the file of CRI-O for `host`.
#[must_use]
pub fn file_name(host: &str) -> String {
    format!("windlass-{}.conf", host.replace(':', "_"))
}

fn place(endpoint: &str) -> Option<Place<'_>> {
    let (scheme, authority) = endpoint.split_once("://")?;
    let is_known =
        matches!(scheme, "http" | "https") && is_host(authority) && endpoint.parse::<Uri>().is_ok();
    is_known.then(|| Place { url: endpoint.to_owned(), authority, is_plain: scheme == "http" })
}

fn of_containerd(
    distribution: Distribution,
    registry: &PlannedRegistry,
    host: &PlannedHost,
    places: &[Place<'_>],
) -> Piece {
    let path = format!("{}/{}/{AUTHORITIES}", distribution.writable(), host.name);
    // A file of authorities would make containerd try HTTPS where plain HTTP is meant.
    let trust = |place: &Place<'_>| match &registry.authorities {
        Some(_) if !place.is_plain => format!("ca = {}\n", quoted(&path)),
        _ => String::new(),
    };
    let body = |place: &Place<'_>| format!("capabilities = [\"pull\", \"resolve\"]\n{}", trust(place));
    let sections = places.split_last().map(|(server, hosts)| {
        let server = format!("server = {}\n{}", quoted(&server.url), body(server));
        let hosts = hosts.iter().map(|host| format!("\n[host.{}]\n{}", quoted(&host.url), body(host)));
        [server].into_iter().chain(hosts).collect::<String>()
    });
    let authorities = registry.authorities.clone().map(|bundle| (AUTHORITIES, bundle));
    let files = authorities.into_iter().chain([(HOSTS, sections.unwrap_or_default())]).collect();
    Piece {
        area: "",
        name: host.name.clone(),
        registry: registry.name.clone(),
        content: Content::Directory(files),
    }
}

fn of_crio(registry: &PlannedRegistry, host: &PlannedHost, places: &[Place<'_>]) -> Vec<Piece> {
    let piece = |area, name: &str, content| Piece {
        area,
        name: name.to_owned(),
        registry: registry.name.clone(),
        content,
    };
    let encrypted = places.iter().filter(|place| !place.is_plain).map(|place| place.authority);
    let mut names: Vec<&str> = encrypted.chain([host.name.as_str()]).collect();
    names.sort_unstable();
    names.dedup();
    let mut pieces: Vec<Piece> = match &registry.authorities {
        Some(bundle) => names
            .into_iter()
            .map(|name| piece(CERTIFICATES, name, Content::Directory(vec![(AUTHORITIES, bundle.clone())])))
            .collect(),
        None => Vec::new(),
    };
    if let Some((last, mirrors)) = places.split_last() {
        let location = |place: &Place<'_>| {
            format!("location = {}\ninsecure = {}\n", quoted(place.authority), place.is_plain)
        };
        let own = format!("[[registry]]\nprefix = {}\n{}", quoted(&host.name), location(last));
        let mirrors = mirrors.iter().map(|mirror| format!("\n[[registry.mirror]]\n{}", location(mirror)));
        let text = [own].into_iter().chain(mirrors).collect();
        pieces.push(piece(REGISTRIES, &file_name(&host.name), Content::File(text)));
    }
    pieces
}

fn quoted(text: &str) -> Value {
    Value::from(text)
}

/// As much of `hosts.toml` as is written.
#[derive(Deserialize)]
struct Hosts {
    server: Option<String>,
    ca: Option<String>,
    #[serde(default)]
    host: BTreeMap<String, Trust>,
}

#[derive(Deserialize)]
struct Trust {
    ca: Option<String>,
}

/// As much of a file of `registries.conf.d` as is written.
#[derive(Deserialize)]
pub(super) struct Registries {
    #[serde(default)]
    pub(super) registry: Vec<Registry>,
}

#[derive(Deserialize)]
pub(super) struct Registry {
    pub(super) prefix: Option<String>,
    #[serde(flatten)]
    pub(super) own: Location,
    #[serde(default)]
    mirror: Vec<Location>,
}

#[derive(Deserialize)]
pub(super) struct Location {
    #[serde(default)]
    pub(super) location: String,
    #[serde(default)]
    insecure: bool,
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::{Target, areas, invalid_name, is_host, pieces, read_back};
    use crate::node_access::distribution::Distribution;
    use crate::node_access::plan::{PlannedHost, PlannedRegistry};
    use crate::node_agent::disk::{Content, Disk, perform};

    const ALL_KINDS: [Distribution; 3] = [Distribution::Containerd, Distribution::Talos, Distribution::CriO];

    fn planned(hosts: &[(&str, bool)], endpoints: &[&str], authorities: Option<&str>) -> PlannedRegistry {
        PlannedRegistry {
            name: "team-a/hub".to_owned(),
            hosts: hosts
                .iter()
                .map(|(name, fallback)| PlannedHost { name: (*name).to_owned(), fallback: *fallback })
                .collect(),
            endpoints: endpoints.iter().map(ToString::to_string).collect(),
            authorities: authorities.map(str::to_owned),
        }
    }

    fn hosts_toml(registry: &PlannedRegistry) -> String {
        let pieces = pieces(Distribution::Containerd, registry, &registry.hosts[0]);
        let Content::Directory(files) = &pieces[0].content else { unreachable!() };
        files.last().unwrap().1.clone()
    }

    #[test]
    fn containerd_tries_each_endpoint_once_and_the_name_only_where_that_is_meant() {
        let (one, two) = ("https://10.96.0.20:5000", "https://[fd00::20]:5000");
        let ca = "/etc/containerd/certs.d/hub.team-a.svc:5000/ca.crt";
        let body = format!("capabilities = [\"pull\", \"resolve\"]\nca = \"{ca}\"\n");
        for (fallback, endpoints, expected) in [
            (false, vec![one], format!("server = \"{one}\"\n{body}")),
            (false, vec![one, two], format!("server = \"{two}\"\n{body}\n[host.\"{one}\"]\n{body}")),
            (
                true,
                vec![one, two],
                format!(
                    "server = \"https://hub.team-a.svc:5000\"\n{body}\n[host.\"{one}\"]\n{body}\n[host.\"{two}\"]\n{body}"
                ),
            ),
        ] {
            let registry = planned(&[("hub.team-a.svc:5000", fallback)], &endpoints, Some("CA"));
            assert_eq!(hosts_toml(&registry), expected);
        }
    }

    #[test]
    fn plain_http_gets_no_authorities_or_containerd_would_try_https_first() {
        let registry = planned(&[("hub:5000", false)], &["http://10.96.0.20:5000"], Some("CA"));
        let expected = "server = \"http://10.96.0.20:5000\"\ncapabilities = [\"pull\", \"resolve\"]\n";
        assert_eq!(hosts_toml(&registry), expected);
    }

    #[test]
    fn crio_is_told_mirrors_and_finds_authorities_by_what_it_connects_to() {
        let endpoints = ["https://10.96.0.20:5000", "http://10.96.0.21:5000"];
        let registry = planned(&[("hub.team-a.svc:5000", false)], &endpoints, Some("CA"));
        let pieces = pieces(Distribution::CriO, &registry, &registry.hosts[0]);
        let names: Vec<String> = pieces.iter().map(ToString::to_string).collect();
        let expected = [
            "certs.d/10.96.0.20:5000",
            "certs.d/hub.team-a.svc:5000",
            "registries.conf.d/windlass-hub.team-a.svc_5000.conf",
        ];
        assert_eq!(names, expected);
        let Content::File(text) = &pieces[2].content else { unreachable!() };
        let expected = "[[registry]]\nprefix = \"hub.team-a.svc:5000\"\nlocation = \"10.96.0.21:5000\"\ninsecure = true\n\
                        \n[[registry.mirror]]\nlocation = \"10.96.0.20:5000\"\ninsecure = false\n";
        assert_eq!(text, expected);
    }

    #[test]
    fn what_is_written_is_read_back_as_it_was_meant() {
        let (one, two) = ("https://10.96.0.20:5000", "https://[fd00::20]:5000");
        for distribution in ALL_KINDS {
            for (fallback, endpoints, authorities) in [
                (false, vec![one], Some("CA")),
                (true, vec![one, two], Some("CA")),
                (false, vec![one, two], None),
                (false, vec!["http://10.96.0.20:5000"], Some("CA")),
            ] {
                let registry = planned(&[("images.example", fallback)], &endpoints, authorities);
                let mount = tempfile::tempdir().unwrap();
                let root = mount.path().join(distribution.writable().trim_start_matches('/'));
                fs::create_dir_all(&root).unwrap();
                let disk = Disk::new(root, areas(distribution), "windlass");
                for piece in pieces(distribution, &registry, &registry.hosts[0]) {
                    perform(&disk.place(&piece)).unwrap();
                }
                let further = fallback.then_some("https://images.example");
                let mut expected: Vec<Target> = endpoints
                    .iter()
                    .copied()
                    .chain(further)
                    .map(|url| Target {
                        url: url.to_owned(),
                        authorities: authorities.filter(|_| url.starts_with("https")).map(str::to_owned),
                    })
                    .collect();
                let mut found = read_back(mount.path(), distribution, "images.example");
                expected.sort();
                found.sort();
                assert_eq!(found, expected, "{distribution:?}");
            }
        }
    }

    #[test]
    fn nothing_is_read_back_from_what_is_not_there_or_cannot_be_read() {
        let mount = tempfile::tempdir().unwrap();
        for distribution in ALL_KINDS {
            assert_eq!(read_back(mount.path(), distribution, "hub:5000"), []);
        }
        let directory = mount.path().join("etc/containerd/certs.d/hub:5000");
        fs::create_dir_all(&directory).unwrap();
        fs::write(directory.join("hosts.toml"), "server = ").unwrap();
        assert_eq!(read_back(mount.path(), Distribution::Containerd, "hub:5000"), []);
        // Authorities that are named and cannot be read are none, and not those of the node.
        fs::write(directory.join("hosts.toml"), "server = \"https://a\"\nca = \"/no/ca.crt\"").unwrap();
        let target = Target { url: "https://a".to_owned(), authorities: Some(String::new()) };
        assert_eq!(read_back(mount.path(), Distribution::Containerd, "hub:5000"), [target]);
    }

    #[test]
    fn a_name_becomes_part_of_a_path_only_if_it_is_a_host() {
        for (name, expected) in [
            ("hub", true),
            ("hub.team-a.svc:5000", true),
            ("10.0.0.1:5000", true),
            ("[fd00::1]:5000", true),
            ("[fd00::1]", true),
            ("Images.Example", true),
            ("", false),
            (".", false),
            ("..", false),
            ("../etc", false),
            ("a/b", false),
            ("a\\b", false),
            (".windlass", false),
            ("_default", false),
            ("-a", false),
            ("a:b", false),
            ("a:0", false),
            ("a:65536", false),
            ("a:+1", false),
            ("a:5000:5000", false),
            ("fd00::1", false),
            ("[..]:5000", false),
            ("[fd00::1", false),
            ("a b", false),
            ("a\0", false),
            ("ä", false),
        ] {
            assert_eq!(is_host(name), expected, "{name:?}");
        }
        assert!(!is_host(&"a".repeat(254)));
        let bad_host = planned(&[("hub:5000", false), ("../../etc", false)], &["https://10.0.0.1:1"], None);
        assert_eq!(invalid_name(&bad_host), Some("../../etc"));
        for endpoint in
            ["10.0.0.1:1", "ftp://10.0.0.1:1", "https://10.0.0.1:1/v2", "https://a\"b", "https://"]
        {
            let registry = planned(&[("hub:5000", false)], &[endpoint], None);
            assert_eq!(invalid_name(&registry), Some(endpoint));
        }
    }
}
