//! The endpoints that a domain's name servers list.
//!
//! Not here: how name servers are asked ([`quorate_dns`]), and when. The invariant: protected endpoints come first.

use quorate_dns::Srv;

/// Which records to ask for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Discovery {
    pub(crate) domain: String,
    /// What follows the service's usual name; empty for nothing.
    pub(crate) service_name: String,
}

impl Discovery {
    /// The endpoints that `look_up` finds: protected ones first.
    ///
    /// # Errors
    /// Why neither kind was found.
    pub(crate) fn endpoints(
        &self,
        mut look_up: impl FnMut(&str) -> Result<Vec<Srv>, String>,
    ) -> Result<Vec<String>, String> {
        let mut find = |service: &str, scheme: &str| {
            let suffix = if self.service_name.is_empty() { String::new() } else { format!("-{}", self.service_name) };
            let mut records = look_up(&format!("_{service}{suffix}._tcp.{}", self.domain))?;
            records.sort_by_key(|record| (record.priority, std::cmp::Reverse(record.weight)));
            let url = |record: &Srv| format!("{scheme}://{}:{}", record.target, record.port);
            Ok::<Vec<String>, String>(records.iter().map(url).collect())
        };
        match (find("etcd-client-ssl", "https"), find("etcd-client", "http")) {
            (Err(secure), Err(plain)) => Err(format!("dns lookup errors: {secure} and {plain}")),
            (secure, plain) => Ok([secure.unwrap_or_default(), plain.unwrap_or_default()].concat()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_come_protected_first() {
        let record = |priority, port| Srv { priority, weight: 0, port, target: "m.example.com.".to_owned() };
        let discovery = Discovery { domain: "example.com".to_owned(), service_name: "x".to_owned() };
        let mut asked = Vec::new();
        let found = discovery.endpoints(|name| {
            asked.push(name.to_owned());
            if name.contains("ssl") { Ok(vec![record(2, 2), record(1, 1)]) } else { Err("no such host".to_owned()) }
        });
        assert_eq!(found, Ok(vec!["https://m.example.com.:1".to_owned(), "https://m.example.com.:2".to_owned()]));
        assert_eq!(asked, ["_etcd-client-ssl-x._tcp.example.com", "_etcd-client-x._tcp.example.com"]);
        let error = discovery.endpoints(|name| Err(format!("lookup {name}"))).expect_err("neither");
        assert!(
            error.starts_with("dns lookup errors: lookup _etcd-client-ssl-x._tcp.example.com and lookup"),
            "{error}"
        );
    }
}
