//! RecordOutcome: what turned out to be true of a diagnosis. Repeated, the newest event time counts.

use std::sync::Arc;

use forebay_proto::v1::{Outcome, RecordOutcomeRequest, RecordOutcomeResponse};
use tonic::Status;

use super::super::Context;
use super::super::deadline::Deadline;
use super::super::errors::invalid;
use super::super::produce::vector;
use super::home::{Home, Kept};
use super::{check_id, not_found};
use crate::definitions::diagnoses::{OUTCOMES, PREDICTIONS, SNAPSHOTS};
use crate::diagnosis::outcome;

/// Longest label and source, bytes.
const MAX_TEXT_BYTES: usize = 255;

/// How far ahead of now an outcome may be said to be found out, in ms: clocks differ a little.
const FUTURE_MS: i64 = 300_000;

/// Answers when the outcome is readable.
pub(super) async fn record(
    context: &Arc<Context>,
    request: RecordOutcomeRequest,
    deadline: Deadline,
) -> Result<RecordOutcomeResponse, Status> {
    deadline.check()?;
    let home = Home::of(context)?;
    let said = request.outcome.ok_or_else(|| invalid("outcome: missing"))?;
    let found_out_ms = said.event_time_ms.unwrap_or_else(|| context.clock.now_ms());
    check(&home, &said, found_out_ms)?;
    let id = said.diagnosis_id.as_bytes();
    let kept = home.kept([SNAPSHOTS, PREDICTIONS], id, &home.terms(None)?, deadline).await?;
    if !matches!(kept, [Kept::Written(_), _] | [Kept::Nothing, Kept::Written(_)]) {
        return Err(not_found(&said.diagnosis_id));
    }
    let document = outcome::document(&said, found_out_ms).map_err(|error| invalid(error.to_string()))?;
    let record = home.record(OUTCOMES, id, document, found_out_ms)?;
    let positions = home.write(&[record], deadline).await?;
    Ok(RecordOutcomeResponse { positions: Some(vector(&positions)) })
}

fn check(home: &Home, said: &Outcome, found_out_ms: i64) -> Result<(), Status> {
    check_id(&said.diagnosis_id)?;
    if said.label.is_empty() {
        return Err(invalid("label: empty; say what turned out to be true"));
    }
    for (what, text) in [("label", &said.label), ("source", &said.source)] {
        if text.len() > MAX_TEXT_BYTES {
            return Err(invalid(format!(
                "{what}: {} bytes; at most {MAX_TEXT_BYTES} are possible",
                text.len()
            )));
        }
    }
    home.check_moment("event_time_ms", found_out_ms, FUTURE_MS)
}
