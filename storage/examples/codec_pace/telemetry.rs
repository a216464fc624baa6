//! Synthetic telemetry from templates: JSON text with tags for what varies. Used by the pace example and by the codec's
//! tests. Everything is drawn from one seeded generator, so the same seed gives the same payloads.

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

/// Views made for measuring: what they are, and their template. Line ends are not part of a payload.
pub const VIEWS: [(&str, &str); 6] = [
    (
        "flat",
        r#"{"id":"<uuid>","ts":<time>,"mac":"<mac>","fw":"<one 2.8.1|2.8.4|2.9.0-rc2|3.0.1|3.1.0>",
"radio":{"band":"<one 2.4GHz|5GHz|6GHz>","channel":<integer 1 196>,"width":<one 20|40|80|160>,"rssi":<decimal -90 -32 1>,"snr":<decimal 4 56 1>,"noise":<decimal -101 -74 1>,"rx_mbps":<decimal 6 2400 1>,"tx_mbps":<decimal 6 2400 1>},
"air":{"utilization":<decimal 0 1 3>,"retry_rate":<decimal 0 0.6 4>,"fail_rate":<decimal 0 0.1 5>,"tx":<decimal 0 1 4>,"rx":<decimal 0 1 4>,"busy":<decimal 0 1 4>},
"rate":{"down_mbps":<decimal 0 300 3>,"up_mbps":<decimal 0 60 3>,"down_peak_mbps":<decimal 0 900 3>,"up_peak_mbps":<decimal 0 120 3>},
"bytes":{"down":<integer 0 90000000>,"up":<integer 0 9000000>},"packets":{"down":<integer 0 90000>,"up":<integer 0 40000>,"dropped":<integer 0 400>},
"quality":{"rtt_ms":<decimal 3 180 2>,"jitter_ms":<decimal 0 40 3>,"loss":<decimal 0 0.06 5>,"stall_ratio":<decimal 0 0.2 5>,"score":<decimal 0 100 2>},
"flows":{"active":<integer 0 400>,"opened":<integer 0 9000>,"reset":<integer 0 200>},"ap":"<hex 12>","uptime_s":<integer 1 5000000>,"online":<one true|true|true|false>,"interval_s":432,"schema":"flat/2"}"#,
    ),
    (
        "optional",
        r#"{"id":"<uuid>","ts":<time>,"mac":"<mac>","fw":"<one 2.8.1|2.8.4|2.9.0-rc2|3.0.1|3.1.0>","radio":{"band":"<one 2.4GHz|5GHz|6GHz>","channel":<integer 1 196>,"rssi_dbm":<decimal -90 -32 1>,"snr_db":<decimal 4 56 1>,"noise_dbm":<decimal -101 -74 1>,"phy_rx_mbps":<decimal 6 2400 1>,"mcs":<integer 0 13>},
"air":{"utilization":<decimal 0 1 3>,"retry_rate":<decimal 0 0.6 4>,"fail_rate":<decimal 0 0.1 5>},"ap":"<hex 12>",<maybe>"previous_ap":"<hex 12>","roam_ms":<decimal 8 900 2>,<end>
<maybe>"power":{"battery":<decimal 0 1 2>,"saving":<one true|false>,"tx_dbm":<decimal 6 21 1>},<end>
"probes":[<repeat 1 8>{"ap":"<hex 12>","rssi_dbm":<decimal -94 -40 1>}<end>],<maybe>"video":{"bitrate":<decimal 0.4 25 2>,"rebuffers":<integer 0 6>,"resolution":"<one 480p|720p|1080p|2160p>"},<end>
<maybe>"call":{"mos":<decimal 1 4.5 2>,"packet_loss":<decimal 0 0.05 4>,"jitter_ms":<decimal 0 60 2>},<end>"top":[<repeat 1 5>{"app":"<one video|game|social|web|backup|voice|update>","share":<decimal 0 1 3>}<end>],"uptime_s":<integer 1 5000000>,"online":<one true|true|true|false>,"schema":"optional/3"}"#,
    ),
    (
        "avro",
        r#"{"header":{"message_id":"<uuid>","event_time":{"long":<time>},"collector":{"string":"poller-<integer 1 64>"},"schema":"avro/12"},
"modem":{"telemetry.Modem":{"mac":{"string":"<mac>"},"model":{"string":"<one GW7-AX|GW8-BE|GW6-AC|CM31-V4>"},"firmware":{"string":"<one 5.14.2-r3|5.14.4-r1|5.15.0-r7|5.15.1-r2|6.0.3-r1|6.1.0-r4>"},"uptime_s":{"long":<integer 1 9000000>},"online":{"boolean":<one true|true|true|false>}}},
"signal":{"telemetry.Signal":{"snr_db":{"double":<decimal 24 44 3>},"snr_min_db":{"double":<decimal 18 42 3>},"rx_power_dbmv":{"double":<decimal -14 14 3>},"tx_power_dbmv":{"double":<decimal 30 54 3>},"mer_db":{"double":<decimal 28 44 3>},"corrected_rate":{"double":<decimal 0 0.3 6>},"uncorrected_rate":{"double":<decimal 0 0.02 7>},"partial_service":{"boolean":<one false|false|true>},"t3_timeouts":{"long":<integer 0 90>},"t4_timeouts":{"long":<integer 0 12>},"tdr_m":{"double":<decimal 0 120 2>}}},
"ofdm":<maybe>{"telemetry.Ofdm":{"mer_p10_db":{"double":<decimal 28 44 3>},"profile":{"int":<integer 0 3>},"plc_power_dbmv":{"double":<decimal -12 12 2>}}}<else>null<end>,"last_reset":{"string":"<one power|t4_timeout|firmware|operator|unknown>"},"last_reset_at":{"long":<before 5184000000>}}"#,
    ),
    (
        "avro arrays",
        r#"{"header":{"message_id":"<uuid>","event_time":{"long":<time>},"schema":"arrays/3"},"modem":{"telemetry.Modem":{"mac":{"string":"<mac>"},"firmware":{"string":"<one 5.14.2-r3|5.14.4-r1|5.15.0-r7|5.15.1-r2|6.0.3-r1|6.1.0-r4>"}}},
"downstream":{"array":[<repeat 8 24>{"channel":<integer 1 48>,"frequency_khz":<integer 111000 999000>,"snr_db":{"double":<decimal 24 44 1>},"power_dbmv":{"double":<decimal -14 14 1>},"modulation":"<one QAM256|QAM256|QAM1024|QAM4096>","corrected":{"long":<integer 0 4000000>},"uncorrected":{"long":<integer 0 9000>},"locked":<one true|true|true|false>}<end>]},
"upstream":{"array":[<repeat 1 4>{"channel":<integer 1 8>,"frequency_khz":<integer 10000 85000>,"power_dbmv":{"double":<decimal 30 54 1>},"modulation":"<one QAM16|QAM64|OFDMA>","retries":{"long":<integer 0 900>}}<end>]},"samples":[<repeat 10 10><decimal 10 2100 3><end>]}"#,
    ),
    (
        "doubles",
        r#"{"id":"<uuid>","ts":<time>,"device":{"mac":"<mac>","fw":"<one 2.8.1|2.8.4|3.0.1>"},"model":{"version":<integer 1 9>,
"scores":{"churn":<double>,"payment":<double>,"care":<double>,"value":<double>,"experience":<double>,"affinity":<double>},"weights":[<repeat 16 16><double><end>],
"observed":{"mean":<decimal 0 100 3>,"p50":<decimal 0 100 3>,"p90":<decimal 0 100 3>,"p99":<decimal 0 100 3>,"count":<integer 0 100000>}},"state":"<one GREEN|GREEN|GREEN|YELLOW|RED>","schema":"doubles/1"}"#,
    ),
    (
        "free text",
        r#"{"contact_id":"<uuid>","occurred_at":{"long":<time>},"channel":{"string":"<one phone|chat|store|app|social>"},"queue":{"string":"<one internet_repair|billing|sales|retention>"},"agent":{"string":"<hex 10>"},"gateway_mac":{"string":"<mac>"},
"gateway_firmware":{"string":"<one 5.14.2-r3|5.14.4-r1|5.15.0-r7>"},"duration_s":{"double":<decimal 40 3200 1>},"hold_s":{"double":<decimal 0 900 1>},"sentiment":{"telemetry.Sentiment":{"overall":{"double":<decimal -1 1 5>},"start":{"double":<decimal -1 1 5>},"end":{"double":<decimal -1 1 5>},"anger":{"double":<decimal 0 1 5>}}},
"resolved":{"boolean":<one true|true|false>},"ticket":<maybe>{"string":"TK<integer 10000000 99999999>"}<else>null<end>,"note":{"string":"<note 3 100>"}}"#,
    ),
];

const WORDS: &str = "the customer called about slow internet in evening after gateway was replaced last week technician \
    found signal low at tap and moved splitter wifi upstairs drops when streaming video bill shows two charges for \
    equipment returned asked to change plan before promotion ends modem restarts every night error t4 timeout seen \
    speed test gave less than half of provisioned rate escalated to tier two callback tomorrow morning resolved by \
    restart no fault on line outage reported nearby neighbor has same problem cable outside damaged by storm";

/// A seeded source of payloads of one template.
pub struct Telemetry {
    template: String,
    random: SmallRng,
    /// Numbers lose the zeros at their end, as most programs write them.
    short: bool,
    now_ms: i64,
}

impl Telemetry {
    /// Payloads of `template`; with `short`, numbers are written without zeros at the end.
    pub fn new(template: &str, short: bool, seed: u64) -> Telemetry {
        let template = template.replace('\n', "");
        Telemetry { template, random: SmallRng::seed_from_u64(seed), short, now_ms: 1_764_000_000_000 }
    }

    /// The next payload.
    pub fn payload(&mut self) -> String {
        self.now_ms += self.random.random_range(0..400);
        let template = std::mem::take(&mut self.template);
        let mut out = String::new();
        let rest = self.part(&template, Some(&mut out));
        assert!(rest.is_empty(), "a template with an end too many");
        self.template = template;
        out
    }

    /// Writes up to the `end` or `else` that belongs to what is before, or to the end; returns what is behind, with it.
    fn part<'t>(&mut self, mut template: &'t str, mut out: Option<&mut String>) -> &'t str {
        while let Some((text, rest)) = template.split_once('<') {
            let (tag, behind) = rest.split_once('>').expect("a tag is closed");
            if let Some(out) = out.as_deref_mut() {
                out.push_str(text);
            }
            if tag == "end" || tag == "else" {
                return &template[text.len()..];
            }
            template = match tag.split_once(' ').unwrap_or((tag, "")) {
                ("maybe", _) => self.maybe(behind, out.as_deref_mut()),
                ("repeat", counts) => self.repeat(counts, behind, out.as_deref_mut()),
                (name, arguments) => {
                    if let Some(out) = out.as_deref_mut() {
                        self.value(name, arguments, out);
                    }
                    behind
                }
            };
        }
        if let Some(out) = out {
            out.push_str(template);
        }
        ""
    }

    fn maybe<'t>(&mut self, body: &'t str, mut out: Option<&mut String>) -> &'t str {
        let yes = self.random.random_bool(0.5);
        let mut rest = self.part(body, out.as_deref_mut().filter(|_| yes));
        if let Some(other) = rest.strip_prefix("<else>") {
            rest = self.part(other, out.filter(|_| !yes));
        }
        rest.strip_prefix("<end>").expect("maybe has an end")
    }

    fn repeat<'t>(&mut self, counts: &str, body: &'t str, mut out: Option<&mut String>) -> &'t str {
        let bounds: Vec<u32> = counts.split(' ').map(|count| count.parse().expect("a count")).collect();
        let mut rest = "";
        for index in 0..self.random.random_range(bounds[0]..=bounds[1]) {
            if let Some(out) = out.as_deref_mut().filter(|_| index > 0) {
                out.push(',');
            }
            rest = self.part(body, out.as_deref_mut());
        }
        rest.strip_prefix("<end>").expect("repeat has an end")
    }

    fn value(&mut self, name: &str, arguments: &str, out: &mut String) {
        let number = |index: usize| {
            arguments.split(' ').nth(index).and_then(|text| text.parse::<f64>().ok()).unwrap_or(0.0)
        };
        let random = &mut self.random;
        let text = match name {
            "uuid" => {
                let hex = format!("{:032x}", random.random::<u128>());
                format!("{}-{}-4{}-a{}-{}", &hex[..8], &hex[8..12], &hex[13..16], &hex[17..20], &hex[20..])
            }
            "mac" => (0..6).map(|_| format!("{:02x}", random.random::<u8>())).collect::<Vec<_>>().join(":"),
            "hex" => (0..number(0) as usize).map(|_| format!("{:x}", random.random_range(0..16u8))).collect(),
            "entity" => format!("{:032x}{:x}", random.random::<u128>(), random.random_range(0..16u8)),
            "time" => self.now_ms.to_string(),
            "before" => (self.now_ms - random.random_range(0..number(0) as i64)).to_string(),
            "counter" => random.random_range(0..(number(0) as u64).max(1) * 40_000).to_string(),
            "integer" => random.random_range(number(0) as i64..=number(1) as i64).to_string(),
            "decimal" => {
                let fixed = format!("{:.*}", number(2) as usize, random.random_range(number(0)..number(1)));
                if self.short { fixed.parse::<f64>().expect("a number").to_string() } else { fixed }
            }
            "double" => random.random::<f64>().to_string(),
            "one" | "own" => {
                let choices: Vec<&str> = arguments.split('|').collect();
                choices[random.random_range(0..choices.len())].to_owned()
            }
            "note" => {
                let words: Vec<&str> = WORDS.split_whitespace().collect();
                let count = random.random_range(number(0) as usize..=number(1) as usize);
                (0..count).map(|_| words[random.random_range(0..words.len())]).collect::<Vec<_>>().join(" ")
            }
            other => panic!("unknown tag {other}"),
        };
        out.push_str(&text);
    }
}
