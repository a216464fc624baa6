//! One server for all tests that only send records and read answers; each uses keys of its own, so that they do not meet.
//! Tests that restart a server or change topics have a bed of their own.

use forebay_tests::{Bed, POINTS};
use tokio::sync::OnceCell;

/// The definitions of [`bed`]: [`POINTS`] and views whose event time, wrapping or lane is another.
const VIEWS: &str = r#"
[[lane]]
name = "side"
dead_letter_topic = "{ns}.side-dlq"
max_value = "64KiB"
[[lane.topic]]
name = "{ns}.avro"
[[lane.topic]]
name = "{ns}.seconds"
[[lane.topic]]
name = "{ns}.header"
[[lane.topic]]
name = "{ns}.stamp"
[[lane.topic]]
name = "{ns}.pair"
[[lane.topic]]
name = "{ns}.low"
[[lane.topic]]
name = "{ns}.high"
priority = 5

[[lane]]
name = "strict"
strict_partition = true
dead_letter_topic = "{ns}.strict-dlq"
[[lane.topic]]
name = "{ns}.strict"

[[view]]
id = 10
name = "avro"
lane = "side"
entity = "customer"
topics = ["{ns}.avro"]
event_time = { path = "head.ts" }
avro_json = true
field = [
  { name = "s", type = "string" },
  { name = "d", type = "double" },
  { name = "i", type = "int64" },
  { name = "b", type = "bool" },
  { name = "j", type = "json" },
  { name = "deep", path = "head.id", type = "string" },
  { name = "or", type = "string", default = "none" },
]
[[view]]
id = 11
name = "seconds"
lane = "side"
entity = "customer"
topics = ["{ns}.seconds"]
event_time = { path = "at", unit = "s" }
[[view]]
id = 12
name = "header"
lane = "side"
entity = "customer"
topics = ["{ns}.header"]
event_time = { header = "x-time" }
[[view]]
id = 13
name = "stamp"
lane = "side"
entity = "customer"
topics = ["{ns}.stamp"]
event_time = "kafka"
ttl = "1h"
max_ttl = "2h"
[[view]]
id = 14
name = "left"
lane = "side"
entity = "customer"
topics = ["{ns}.pair"]
event_time = { path = "ts" }
[[view]]
id = 15
name = "right"
lane = "side"
entity = "customer"
topics = ["{ns}.pair"]
event_time = { path = "ts" }
[[view]]
id = 16
name = "sources"
lane = "side"
entity = "customer"
topics = ["{ns}.low", "{ns}.high"]
event_time = { path = "ts" }
history = "full"
[[view]]
id = 17
name = "strict"
lane = "strict"
entity = "customer"
topics = ["{ns}.strict"]
event_time = { path = "ts" }
"#;

/// A look at the shared server; the first to ask starts it.
pub async fn bed() -> Bed {
    static SHARED: OnceCell<Bed> = OnceCell::const_new();
    let start = || async {
        let config = "[read]\nmax_message = \"4MiB\"\ndefault_wait = \"1s\"\n";
        Bed::new("shared").definitions(&format!("{POINTS}{VIEWS}")).config(config).start().await
    };
    SHARED.get_or_init(start).await.look().await
}

/// An entity id no other test has.
pub fn entity(name: &str) -> Vec<u8> {
    format!("{name}-{:08x}", rand::random::<u32>()).into_bytes()
}
