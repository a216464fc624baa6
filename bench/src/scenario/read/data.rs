//! What is read where the server is ours: customers with all ten views of the mix, and devices with one. Every key has
//! several versions, so that the newest are stored as they are in a server that has run for a while: by learned shapes.

use std::collections::HashMap;

use anyhow::Context;
use bytes::Bytes;
use forebay_server::mix::sender::{Sender, create_topics};
use forebay_server::mix::{self, HIGH_VOLUME, Mix, MixView, STANDARD, Shares, VIEWS};
use forebay_tests::event_now;
use rdkafka::ClientConfig;

/// Before the topics' names.
const PREFIX: &str = "read.";

/// The view of devices that is read; its payloads are the smallest.
pub const DEVICE_VIEW: &str = "device_radio";

/// The feature service that models ask for.
pub const SERVICE: &str = "fifty";

/// How often every view is sent for as many entities as there are.
pub const VERSIONS: usize = 6;

/// Fields of each customers' view in the service.
const FIELDS: usize = 5;

/// Ids of what was sent.
pub struct Sent {
    /// Customers that have all ten views.
    pub customers: Vec<Bytes>,
    /// Devices.
    pub devices: Vec<Bytes>,
    /// Mean bytes of a payload.
    pub mean_bytes: u64,
}

/// A producer of the data.
pub struct Source {
    sender: Sender,
    /// A generator for each view, so that each has as many entities.
    views: Vec<(MixView, Mix)>,
    entities: u64,
    /// By entity id how many views it has.
    seen: HashMap<Vec<u8>, Vec<&'static str>>,
    bytes: u64,
    /// Data points sent.
    pub count: u64,
}

/// Customers' views, in the order of the mix.
pub fn customer_views() -> Vec<String> {
    VIEWS.iter().filter(|view| view.lane == STANDARD).map(|view| view.name.to_owned()).collect()
}

impl Source {
    /// Makes the topics.
    pub async fn new(bootstrap: &str, entities: u64, partitions: i32) -> anyhow::Result<Source> {
        let mut settings = ClientConfig::new();
        settings.set("bootstrap.servers", bootstrap);
        create_topics(&settings, PREFIX, None, partitions).await?;
        let read = VIEWS.iter().filter(|view| view.lane == STANDARD || view.name == DEVICE_VIEW);
        let none = Shares { late: 0.0, duplicate: 0.0, bad: 0.0, future: 0.0, tombstone: 0.0 };
        let views = read.map(|view| {
            let scale = view.population(1) / entities;
            (*view, Mix::new(1, scale, none).only(|other| other.name == view.name))
        });
        Ok(Source {
            sender: Sender::connect(&settings, PREFIX, None)?,
            views: views.collect(),
            entities,
            seen: HashMap::new(),
            bytes: 0,
            count: 0,
        })
    }

    /// Sends as many data points of each view as there are entities.
    pub fn send_round(&mut self) -> anyhow::Result<()> {
        for (view, mix) in &mut self.views {
            for _ in 0..self.entities {
                let now_ms = event_now();
                let record = mix.next(now_ms);
                self.sender.send(record, now_ms)?;
                self.bytes += record.value.as_ref().map_or(0, Vec::len) as u64;
                let seen = self.seen.entry(record.key.clone().context("a key")?).or_default();
                if !seen.contains(&view.name) {
                    seen.push(view.name);
                }
                self.count += 1;
            }
            self.sender.poll(std::time::Duration::ZERO);
        }
        self.sender.flush()
    }

    /// What is there to be read.
    pub fn sent(self) -> Sent {
        let all = self.views.len() - 1;
        let (mut customers, mut devices) = (Vec::new(), Vec::new());
        for (id, views) in self.seen {
            match views[..] {
                [DEVICE_VIEW] => devices.push(Bytes::from(id)),
                _ if views.len() == all => customers.push(Bytes::from(id)),
                _ => {}
            }
        }
        customers.sort_unstable();
        devices.sort_unstable();
        Sent { customers, devices, mean_bytes: self.bytes / self.count.max(1) }
    }
}

/// The mix's definitions, with one more feature service.
pub fn definitions() -> anyhow::Result<String> {
    let text = mix::definitions(PREFIX);
    let table: toml::Table = text.parse().context("the mix's definitions are TOML")?;
    let mut features = Vec::new();
    for view in table["view"].as_array().into_iter().flatten() {
        if view["lane"].as_str() == Some(STANDARD) {
            features.extend(typical(view)?);
        }
    }
    let list = toml::Value::from(features);
    Ok(format!("{text}\n[[feature_service]]\nname = \"{SERVICE}\"\nversion = 1\nfeatures = {list}\n"))
}

/// As models have them: mostly numbers, and a text.
fn typical(view: &toml::Value) -> anyhow::Result<Vec<String>> {
    let name = view["name"].as_str().context("a name")?;
    let fields = view["field"].as_array().context("fields")?;
    let of = |wanted: &'static [&'static str]| {
        let is = move |field: &&toml::Value| field["type"].as_str().is_some_and(|of| wanted.contains(&of));
        let full = move |field: &toml::Value| Some(format!("{name}.{}", field["name"].as_str()?));
        fields.iter().filter(is).filter_map(full)
    };
    Ok(of(&["double", "int64", "bool"]).take(FIELDS - 1).chain(of(&["string"]).take(1)).collect())
}

/// Lanes that are read.
pub const LANES: [&str; 2] = [STANDARD, HIGH_VOLUME];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_service_has_fifty_features_of_ten_views() {
        let table: toml::Table = definitions().unwrap().parse().unwrap();
        let services = table["feature_service"].as_array().unwrap();
        let service = services.iter().find(|service| service["name"].as_str() == Some(SERVICE)).unwrap();
        assert_eq!(service["features"].as_array().unwrap().len(), 50);
        assert_eq!(customer_views().len(), 10);
    }
}
