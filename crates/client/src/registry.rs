//! Services: instances register, clients discover.
//!
//! It owns the form of an instance: JSON as Go's `naming/endpoints` writes it, under `SERVICE/INSTANCE`, so that Go's gRPC
//! resolver finds instances registered here, and the other way round. Choosing among them is here too; connecting is not.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde::{Deserialize, Serialize};

use crate::directory::{Directory, View};
use crate::ephemeral::Presence;
use crate::error::{Error, Result};
use crate::namespace::{Namespace, check_part};
use crate::session::SessionOptions;
use crate::store::random_u64;

/// One instance of a service.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Instance {
    /// Where it is reached, as `host:port`.
    #[serde(rename = "Addr")]
    pub address: String,
    /// What else clients should know; `null` if nothing.
    #[serde(rename = "Metadata", default)]
    pub metadata: serde_json::Value,
}

impl Instance {
    /// An instance at an address.
    #[must_use]
    pub fn at(address: impl Into<String>) -> Self {
        Self { address: address.into(), metadata: serde_json::Value::Null }
    }

    /// The same with something that clients should know.
    #[must_use]
    pub fn with_metadata(self, metadata: serde_json::Value) -> Self {
        Self { metadata, ..self }
    }

    /// The stored form: with `Op`, which Go's older readers expect.
    fn stored(&self) -> Vec<u8> {
        serde_json::json!({ "Op": 0, "Addr": self.address, "Metadata": self.metadata }).to_string().into_bytes()
    }
}

impl Namespace {
    /// Registers an instance for as long as the registration lives; it comes back after losses. An instance of the same
    /// name is replaced, as that of an earlier run. Returns when it can be discovered.
    ///
    /// # Errors
    /// Names that are none; the store refuses.
    pub async fn register(
        &self,
        service: &str,
        name: &str,
        instance: &Instance,
        options: SessionOptions,
    ) -> Result<Registration> {
        check_part(name)?;
        let mut presence = self.presence(&format!("{service}/{name}"), instance.stored(), options)?;
        presence.present().await?;
        presence.mark_seen();
        Ok(Registration { presence })
    }

    /// Discovers the instances of a service, all of them known when this returns.
    ///
    /// # Errors
    /// A name that is none; no member answers; the store refuses.
    pub async fn discover(&self, service: &str) -> Result<Discovery> {
        Ok(Discovery { directory: self.directory(service).await?, turn: Arc::new(AtomicUsize::new(0)) })
    }
}

/// An instance that is registered. Dropping it takes it out in the background.
pub struct Registration {
    presence: Presence,
}

impl Registration {
    /// Changes what is registered, and waits until it can be discovered.
    ///
    /// # Errors
    /// The store refuses.
    pub async fn update(&self, instance: &Instance) -> Result<()> {
        self.presence.update(instance.stored()).await.map(|_| ())
    }

    /// Its key, and whether it is seen at the moment.
    #[must_use]
    pub fn presence(&self) -> &Presence {
        &self.presence
    }

    /// The same to wait for changes.
    pub fn presence_mut(&mut self) -> &mut Presence {
        &mut self.presence
    }

    /// Takes it out and waits until that is done.
    pub async fn deregister(self) {
        self.presence.stop().await;
    }
}

/// The instances of a service, live.
pub struct Discovery {
    directory: Directory,
    turn: Arc<AtomicUsize>,
}

/// The instances of a service as of a moment.
#[derive(Clone, Debug)]
pub struct Instances {
    /// The instances by name.
    pub by_name: BTreeMap<String, Instance>,
    /// Names whose value is not of the registry's form.
    pub unreadable: Vec<String>,
    /// Whether the store answered last time it was asked. If not, the instances are those of before: still the best guess.
    pub is_connected: bool,
    /// Why nothing new comes any more; none while it does.
    pub failure: Option<Error>,
}

impl Instances {
    fn of(view: View) -> Self {
        let (mut by_name, mut unreadable) = (BTreeMap::new(), Vec::new());
        for (name, entry) in view.entries.iter() {
            match serde_json::from_slice(&entry.value) {
                Ok(instance) => {
                    by_name.insert(name.clone(), instance);
                }
                Err(_) => unreadable.push(name.clone()),
            }
        }
        Self { by_name, unreadable, is_connected: view.is_connected, failure: view.failure }
    }
}

impl Discovery {
    /// The instances at this moment.
    #[must_use]
    pub fn instances(&self) -> Instances {
        Instances::of(self.directory.view())
    }

    /// Waits until they are not what this call saw last, and gives them.
    pub async fn changed(&mut self) -> Instances {
        Instances::of(self.directory.changed().await)
    }

    /// Waits until they are as wanted.
    ///
    /// # Errors
    /// Nothing new comes any more.
    pub async fn wait_for(&mut self, mut wanted: impl FnMut(&Instances) -> bool) -> Result<Instances> {
        self.directory.wait_for(|view| wanted(&Instances::of(view.clone()))).await.map(Instances::of)
    }

    /// The next instance in turn; none if there is none.
    #[must_use]
    pub fn next_in_turn(&self) -> Option<Instance> {
        let instances = self.instances().by_name;
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        let count = instances.len();
        (count > 0).then(|| instances.into_values().nth(turn % count)).flatten()
    }

    /// Any instance, each as likely; none if there is none.
    #[must_use]
    pub fn any(&self) -> Option<Instance> {
        let instances = self.instances().by_name;
        let count = instances.len() as u64;
        if count == 0 {
            return None;
        }
        instances.into_values().nth(usize::try_from(random_u64() % count).unwrap_or(0))
    }

    /// The instance that a key belongs to: the same for all who see the same instances, and when one goes, only its keys
    /// move. None if there is none.
    #[must_use]
    pub fn for_key(&self, key: &[u8]) -> Option<Instance> {
        let instances = self.instances().by_name;
        instances.into_iter().max_by_key(|(name, _)| weight(name.as_bytes(), key)).map(|(_, instance)| instance)
    }
}

/// The weight of an instance for a key (rendezvous hashing), the same in every process: FNV-1a, mixed at its end.
fn weight(name: &[u8], key: &[u8]) -> u64 {
    let bytes = name.iter().chain(&[0]).chain(key);
    let mut hash = bytes
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3));
    hash ^= hash >> 33;
    hash = hash.wrapping_mul(0xff51_afd7_ed55_8ccd);
    hash ^ (hash >> 33)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_instance_is_stored_as_go_reads_it() {
        let instance = Instance::at("10.0.0.1:80").with_metadata(serde_json::json!({ "zone": "b" }));
        let stored: serde_json::Value = serde_json::from_slice(&instance.stored()).expect("JSON");
        assert_eq!(stored, serde_json::json!({ "Op": 0, "Addr": "10.0.0.1:80", "Metadata": { "zone": "b" } }));
        assert_eq!(serde_json::from_slice::<Instance>(&instance.stored()).expect("an instance"), instance);
        let of_go = br#"{"Op":0,"Addr":"a:1","Metadata":null}"#;
        assert_eq!(serde_json::from_slice::<Instance>(of_go).expect("an instance"), Instance::at("a:1"));
    }

    #[test]
    fn keys_spread_and_stay_when_others_go() {
        let names: Vec<String> = (0..5).map(|number| format!("instance-{number}")).collect();
        let owner = |names: &[String], key: u32| {
            names.iter().max_by_key(|name| weight(name.as_bytes(), &key.to_be_bytes())).expect("one").clone()
        };
        let mut counts = BTreeMap::new();
        for key in 0..10_000 {
            let with_all = owner(&names, key);
            if with_all != names[4] {
                assert_eq!(owner(&names[..4], key), with_all);
            }
            *counts.entry(with_all).or_insert(0u32) += 1;
        }
        assert!(counts.len() == 5 && counts.values().all(|count| (1600..2400).contains(count)), "{counts:?}");
    }
}
