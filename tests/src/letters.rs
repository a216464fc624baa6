//! What tests ask about dead letters: a bad record's letter has its original bytes, its reason and its position, a good
//! record behind it is not held up, and there are no other letters than the model's.

use std::collections::BTreeMap;

use anyhow::{Context, ensure};

use crate::bed::Bed;
use crate::model::{Definitions, Model, Why};
use crate::record::{Consumed, Place, Record};
use crate::wait::eventually;

impl Bed {
    /// Produces a record to `points` that must be dead-lettered for this reason, and shows that a good one behind it on
    /// the same partition is readable.
    pub async fn refused(&self, record: Record, reason: &str) -> Consumed {
        let letter = self.letter(record, reason).await;
        let partition = letter.header("forebay-dlq-partition").and_then(|text| text.parse().ok());
        let entity = self.entity_on(partition.expect("a partition"));
        let payload = format!(r#"{{"ts":{}}}"#, crate::event_now());
        let behind = self.put(Record::new("points", &entity, payload)).await;
        assert_eq!(self.get("points", &entity).await.place, Some(behind), "the record behind the bad one");
        letter
    }

    /// Produces a record that must be dead-lettered for this reason; gives the letter, which holds it untouched.
    pub async fn letter(&self, record: Record, reason: &str) -> Consumed {
        let record = self.own(record);
        let place = self.kafka.send(&record).await;
        let letter = self.dead_letter(&place).await;
        assert_eq!(letter.header("forebay-dlq-reason").as_deref(), Some(reason), "{letter:?}");
        assert!(
            letter.key == record.key && letter.value == record.value,
            "the letter has the original bytes"
        );
        for (name, value) in &record.headers {
            let kept = |(key, kept): &(String, Option<Vec<u8>>)| key == name && kept.as_ref() == Some(value);
            assert!(letter.headers.iter().any(kept), "header {name} is kept");
        }
        assert!(
            letter.header("forebay-dlq-detail").is_some_and(|text| !text.is_empty()),
            "a detail for people"
        );
        let stamp = letter.header("forebay-dlq-timestamp").and_then(|text| text.parse::<i64>().ok());
        assert!(stamp.is_some_and(|ms| record.timestamp_ms.is_none_or(|at| at == ms)), "{stamp:?}");
        letter
    }

    /// The dead letter of the record at this place, once it is there.
    pub async fn dead_letter(&self, place: &Place) -> Consumed {
        let topics = Definitions::parse(&self.definitions).dead_letter_topics();
        eventually("the dead letter arrives", || async {
            let mut letters = std::collections::HashMap::new();
            for topic in &topics {
                letters.extend(self.kafka.dead_letters(topic).await);
            }
            letters.remove(place).with_context(|| format!("{place:?}, not among {}", letters.len()))
        })
        .await
    }

    /// The dead letters there are, once there are at least `count`, in the order of their original positions.
    pub async fn dead_letters(&self, count: usize) -> Vec<Consumed> {
        let topic = Definitions::parse(&self.definitions).dead_letter_topics().remove(0);
        eventually("the dead letters arrive", || async {
            let found = self.kafka.dead_letters(&topic).await;
            ensure!(found.len() >= count, "{} of {count}", found.len());
            let mut found: Vec<_> = found.into_iter().collect();
            found.sort_by(|a, b| a.0.cmp(&b.0));
            Ok(found.into_iter().map(|(_, record)| record).collect())
        })
        .await
    }

    /// Waits until every record the model refuses is where it belongs: dead-lettered at least once for that reason, with
    /// its original bytes; and that there are no other dead letters.
    pub async fn dead_letters_agree(&self, model: &Model) {
        let wanted = model.refused.iter().filter_map(|(place, why)| match why {
            Why::Dead(reason) => Some((place.clone(), (*reason).to_owned())),
            Why::Expired => None,
        });
        let wanted: BTreeMap<_, _> = wanted.collect();
        let topics = Definitions::parse(&self.definitions).dead_letter_topics();
        eventually("the dead letters are the model's", || async {
            let mut found = BTreeMap::new();
            for topic in &topics {
                for (place, letter) in self.kafka.dead_letters(topic).await {
                    found.insert(place, letter.header("forebay-dlq-reason").unwrap_or_default());
                }
            }
            let missing = wanted.iter().find(|(place, reason)| found.get(place) != Some(reason));
            ensure!(missing.is_none(), "{missing:?} {:?}", missing.and_then(|(place, _)| found.get(place)));
            let extra = found.iter().find(|(place, _)| !wanted.contains_key(place));
            ensure!(extra.is_none(), "not bad, yet dead-lettered: {extra:?}");
            Ok(())
        })
        .await;
    }
}
