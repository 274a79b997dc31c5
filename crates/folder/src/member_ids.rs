//! Ids of members and clusters: pure functions of the settings, equal to etcd's, since tools and people compare them.

use sha1::{Digest, Sha1};

/// A member's id: of its sorted peer URLs and the cluster's token.
pub fn member_id(peer_urls: &[String], token: &str) -> u64 {
    let mut sorted: Vec<&str> = peer_urls.iter().map(String::as_str).collect();
    sorted.sort_unstable();
    let mut hash = Sha1::new();
    for url in sorted {
        hash.update(url.as_bytes());
    }
    hash.update(token.as_bytes());
    first_eight(&hash.finalize())
}

/// The id of a member that is added to a running cluster: of its peer URLs and the second of its addition, so that a
/// member that comes again is another one.
pub fn added_member_id(peer_urls: &[String], unix_seconds: u64) -> u64 {
    member_id(peer_urls, &unix_seconds.to_string())
}

/// A cluster's id: of its first members' ids.
pub fn cluster_id(member_ids: &[u64]) -> u64 {
    let mut sorted = member_ids.to_vec();
    sorted.sort_unstable();
    let mut hash = Sha1::new();
    for id in sorted {
        hash.update(id.to_be_bytes());
    }
    first_eight(&hash.finalize())
}

fn first_eight(digest: &[u8]) -> u64 {
    u64::from_be_bytes(digest[..8].try_into().expect("SHA-1 has 20 bytes"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_those_that_etcd_makes() {
        let member = member_id(&["http://localhost:20001".to_owned()], "new");
        assert_eq!(member, 0xca50_e935_7181_d758);
        assert_eq!(cluster_id(&[member]), 238_453_183_653_593_855);
        let default = member_id(&["http://localhost:2380".to_owned()], "etcd-cluster");
        assert_eq!(default, 0x8e9e_05c5_2164_694d);
        assert_eq!(cluster_id(&[default]), 0xcdf8_1819_4e3a_8c32);
    }

    #[test]
    fn the_order_of_urls_and_members_does_not_matter() {
        let urls = ["http://b:1".to_owned(), "http://a:1".to_owned()];
        let swapped = [urls[1].clone(), urls[0].clone()];
        assert_eq!(member_id(&urls, "t"), member_id(&swapped, "t"));
        assert_eq!(cluster_id(&[1, 2, 3]), cluster_id(&[3, 1, 2]));
        assert_ne!(member_id(&urls, "t"), member_id(&urls, "u"));
    }
}
