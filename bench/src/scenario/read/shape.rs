//! What is asked: requests of one kind, in turn. Knows definitions and protos, not who answers.

use std::sync::Arc;

use bytes::Bytes;
use forebay_proto::v1::get_features_request::Selection;
use forebay_proto::v1::{Format, GetFeaturesRequest, ViewSelection, ViewSelections};

/// Names of the shapes over simulated data.
pub const SHAPES: [&str; 3] = ["one", "ten", "batch"];

/// Requests of one kind.
pub struct Shape {
    /// For people.
    pub name: String,
    /// Asked in turn.
    pub requests: Arc<Vec<GetFeaturesRequest>>,
    /// The command that reads the same from Redis; none where it has no such values.
    pub redis: Option<&'static str>,
    /// Every value of every answer must be PRESENT.
    pub whole: bool,
}

impl Shape {
    /// The payloads of some views, of so many entities a request.
    pub fn views(views: &[String], ids: &[Bytes], batch: usize, whole: bool) -> Shape {
        let selection = |view: &String| ViewSelection { view: view.clone(), fields: Vec::new() };
        let views_selected = ViewSelections { views: views.iter().map(selection).collect() };
        let selection = Selection::Views(views_selected);
        let redis = if views.len() * batch == 1 { "Redis GET" } else { "Redis MGET" };
        Shape {
            name: format!("{batch} x {}", plural(views.len(), "view")),
            requests: requests(ids, batch, &selection, Format::Json),
            redis: Some(redis),
            whole,
        }
    }

    /// The typed features of a service.
    pub fn service(service: &str, features: &str, ids: &[Bytes], batch: usize, whole: bool) -> Shape {
        let selection = Selection::FeatureService(service.to_owned());
        let requests = requests(ids, batch, &selection, Format::Typed);
        Shape { name: format!("{batch} x {features}"), requests, redis: None, whole }
    }
}

fn plural(number: usize, what: &str) -> String {
    format!("{number} {what}{}", if number == 1 { "" } else { "s" })
}

/// One request for every entity to begin with, so that answers differ as much as they can.
fn requests(
    ids: &[Bytes],
    batch: usize,
    selection: &Selection,
    format: Format,
) -> Arc<Vec<GetFeaturesRequest>> {
    let request = |first| GetFeaturesRequest {
        entities: ids.iter().cycle().skip(first).take(batch).cloned().collect(),
        selection: Some(selection.clone()),
        format: format.into(),
        ..GetFeaturesRequest::default()
    };
    Arc::new((0..ids.len()).step_by(batch.div_ceil(10)).map(request).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_request_is_as_large_as_wanted_and_every_entity_is_asked_for() {
        let ids: Vec<Bytes> = (0..250).map(|i| Bytes::from(format!("e{i}"))).collect();
        let shape = Shape::service("s", "50 typed features", &ids, 100, true);
        assert!(shape.requests.iter().all(|request| request.entities.len() == 100));
        let asked: std::collections::BTreeSet<_> =
            shape.requests.iter().flat_map(|request| request.entities.clone()).collect();
        assert_eq!((asked.len(), shape.name.as_str()), (250, "100 x 50 typed features"));
        let shape = Shape::views(&["v".into()], &ids, 1, true);
        assert_eq!((shape.requests.len(), shape.name.as_str()), (250, "1 x 1 view"));
    }
}
