//! What is in the simulated mix: its views with their rates, populations and payload templates, and who the entities are.
//! `definitions.toml` declares the same views for the server; a test holds the two together.

use super::random::scatter;

/// Lane of the customers' views.
pub const STANDARD: &str = "standard";
/// Lane of the devices' views.
pub const HIGH_VOLUME: &str = "high_volume";

/// Customers at scale 1.
const CUSTOMERS: u64 = 25_100_000;
/// Devices at scale 1.
const DEVICES: u64 = 15_000_000;
/// Customers with a problem under watch, who report every five minutes: one in this many.
const WATCHED: u64 = 98;

/// One view of the mix.
#[derive(Debug, Clone, Copy)]
pub struct MixView {
    /// Name as defined.
    pub name: &'static str,
    /// Lane as defined.
    pub lane: &'static str,
    /// Topic without the prefix.
    pub topic: &'static str,
    /// Entities at scale 1.
    entities: u64,
    /// Data points of one entity in a day.
    per_day: f64,
    /// Header that carries the event time, for the view that has none in its payload.
    pub event_time_header: Option<&'static str>,
    pub(super) template: &'static str,
}

macro_rules! view {
    ($name:literal, $lane:expr, $topic:literal, $entities:expr, $per_day:expr, $header:expr) => {
        MixView {
            name: $name,
            lane: $lane,
            topic: $topic,
            entities: $entities,
            per_day: $per_day,
            event_time_header: $header,
            template: include_str!(concat!("payloads/", $name, ".template")),
        }
    };
}

/// Ten customer views (725 M data points a day at scale 1) and two device views (6.0 B).
pub const VIEWS: [MixView; 12] = [
    view!("account_profile", STANDARD, "standard.daily", CUSTOMERS, 1.0, Some("event-time")),
    view!("equipment_inventory", STANDARD, "standard.daily", CUSTOMERS, 1.0, None),
    view!("care_contacts", STANDARD, "standard.daily", CUSTOMERS, 1.0, None),
    view!("usage_daily", STANDARD, "standard.daily", CUSTOMERS, 1.0, None),
    view!("neighborhood_plant", STANDARD, "standard.daily", CUSTOMERS, 1.0, None),
    view!("modem_signal", STANDARD, "standard.periodic", CUSTOMERS, 6.0, None),
    view!("wifi_environment", STANDARD, "standard.periodic", CUSTOMERS, 6.0, None),
    view!("speed_test", STANDARD, "standard.periodic", CUSTOMERS, 6.0, None),
    view!("service_latency", STANDARD, "standard.frequent", CUSTOMERS / WATCHED, 288.0, None),
    view!("wifi_experience", STANDARD, "standard.frequent", CUSTOMERS / WATCHED, 288.0, None),
    view!("device_radio", HIGH_VOLUME, "high_volume.radio", DEVICES, 200.0, None),
    view!("device_traffic", HIGH_VOLUME, "high_volume.traffic", DEVICES, 200.0, None),
];

impl MixView {
    /// How many entities have this view when the mix is divided by `scale`; at least one.
    pub fn population(&self, scale: u64) -> u64 {
        (self.entities / scale.max(1)).max(1)
    }

    /// Data points of this view in a day at scale 1; what views are weighted by.
    pub fn daily(&self) -> f64 {
        self.entities as f64 * self.per_day
    }

    /// Whether the topic feeds other views too, so that records must name theirs.
    pub(super) fn shares_topic(&self) -> bool {
        VIEWS.iter().filter(|view| view.topic == self.topic).count() > 1
    }

    /// The id of entity `number` of this view, 33 bytes: the same customer in every customer view.
    pub fn entity_id(&self, number: u64, id: &mut Vec<u8>) {
        let (kind, tail) = if self.lane == HIGH_VOLUME { ("device-", 10) } else { ("customer-", 8) };
        id.clear();
        id.extend_from_slice(kind.as_bytes());
        push_hex(id, scatter(number ^ 0x0c0f_fee0), 16);
        push_hex(id, scatter(!number), tail);
    }
}

/// Appends the lowest `digits` hexadecimal digits.
pub(super) fn push_hex(out: &mut Vec<u8>, number: u64, digits: usize) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    out.extend((0..digits).rev().map(|at| DIGITS[(number >> (4 * at)) as usize & 15]));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lanes_carry_what_the_operator_carried() {
        let daily =
            |lane: &str| VIEWS.iter().filter(|view| view.lane == lane).map(MixView::daily).sum::<f64>();
        assert!((daily(STANDARD) / 725e6 - 1.0).abs() < 0.01, "{}", daily(STANDARD));
        assert!((daily(HIGH_VOLUME) / 6.0e9 - 1.0).abs() < 0.01, "{}", daily(HIGH_VOLUME));
    }

    #[test]
    fn entity_ids_are_33_bytes_and_distinct() {
        for view in VIEWS {
            let mut seen = std::collections::HashSet::new();
            for number in 0..1000 {
                let mut id = Vec::new();
                view.entity_id(number, &mut id);
                assert_eq!(id.len(), 33);
                assert!(seen.insert(id));
            }
        }
    }
}
