//! What reads answer: statuses, times, positions, typed columns, as-of, history and its pages.

use forebay_proto::v1::{Format, GetHistoryRequest};

use super::*;

fn history_of(entity: &str) -> GetHistoryRequest {
    GetHistoryRequest {
        entity: Bytes::copy_from_slice(entity.as_bytes()),
        view: "points".into(),
        ..GetHistoryRequest::default()
    }
}

#[tokio::test]
async fn p13_ttl_is_exact_to_the_millisecond() {
    let mut bed = Bed::new();
    bed.put("e", NOW, r#"{"i":1}"#);
    let expiry = NOW + 7 * DAY;
    for (now, expected) in [
        (NOW, ValueStatus::Present),
        (expiry - 1, ValueStatus::Present),
        (expiry, ValueStatus::Expired),
        (expiry + HOUR - 1, ValueStatus::Expired),
        (expiry + HOUR, ValueStatus::NotFound),
    ] {
        bed.set_now(now);
        let view = bed.view(of(&["e"])).await;
        assert_eq!(statuses(&view.status), [expected], "{} ms after expiry", now - expiry);
        let has_value = expected == ValueStatus::Present;
        assert_eq!(!view.json[0].is_empty(), has_value);
        assert_eq!(view.expiry_ms[0], if expected == ValueStatus::NotFound { 0 } else { expiry });
        let shown = bed.history(history_of("e")).await.unwrap().versions.unwrap().status.len();
        assert_eq!(shown, usize::from(has_value));
        let all = bed.history(GetHistoryRequest { include_expired: true, ..history_of("e") }).await.unwrap();
        let expected_rows = usize::from(expected != ValueStatus::NotFound);
        assert_eq!(all.versions.unwrap().status.len(), expected_rows);
    }
}

#[tokio::test]
async fn expired_values_come_only_when_asked_for() {
    let mut bed = Bed::new();
    bed.put("e", NOW, r#"{"i":1}"#);
    bed.set_now(NOW + 7 * DAY);
    let view = bed.view(GetFeaturesRequest { include_expired: true, ..of(&["e"]) }).await;
    assert_eq!((statuses(&view.status), &view.json[0][..]), (vec![ValueStatus::Expired], &b"{\"i\":1}"[..]));
    let typed = GetFeaturesRequest { include_expired: true, format: Format::Typed as i32, ..of(&["e"]) };
    let view = bed.view(typed).await;
    assert_eq!((statuses(&view.status), view.fields[1].ints[0]), (vec![ValueStatus::Expired], 1));
}

#[tokio::test]
async fn every_row_says_where_it_is_from_and_absent_ones_are_zero() {
    let mut bed = Bed::new();
    bed.put("a", NOW - 5, r#"{"i":1}"#);
    let offset = bed.put_kind("a", NOW - 3, NOW - 1, Some(r#"{"i":2}"#));
    bed.put("d", NOW - 9, r#"{"i":3}"#);
    bed.put_kind("d", NOW - 9, NOW - 8, None);
    let view = bed.view(of(&["a", "nobody", "d", "a"])).await;
    let expected = [ValueStatus::Present, ValueStatus::NotFound, ValueStatus::Deleted, ValueStatus::Present];
    assert_eq!(statuses(&view.status), expected);
    assert_eq!(view.event_time_ms, [NOW - 3, 0, NOW - 9, NOW - 3]);
    assert_eq!(view.ingest_time_ms, [NOW - 1, 0, NOW - 8, NOW - 1]);
    assert_eq!(view.json.iter().map(|json| json.len()).collect::<Vec<_>>(), [7, 0, 0, 7]);
    assert_eq!((view.topics, view.topic_index), (vec!["points".to_owned()], vec![0; 4]));
    assert_eq!((view.partition[0], view.offset[0]), (Bed::partition("a"), offset));
}

#[tokio::test]
async fn the_answer_says_what_was_applied() {
    let mut bed = Bed::new();
    let offset = bed.put("e", NOW, "{}");
    let response = bed.read(of(&["e"])).await.unwrap();
    assert_eq!(response.read_at, Some(vector("points", Bed::partition("e"), offset)));
    assert_eq!(response.unavailable, []);
}

#[tokio::test]
async fn typed_columns_have_a_status_per_field() {
    let mut bed = Bed::new();
    bed.put("a", NOW, r#"{"d":1.5,"i":7,"s":"x\ny","inner":{"deep":[1, 2]},"b":false}"#);
    bed.put("b", NOW, r#"{"d":"no","i":null,"inner":{}}"#);
    let view = bed.view(GetFeaturesRequest { format: Format::Typed as i32, ..of(&["a", "b", "c"]) }).await;
    let [d, i, s, j, b] = &view.fields[..] else { panic!("{:?}", view.fields) };
    use ValueStatus::{Invalid, NotFound, Null, Present};
    assert_eq!(
        (&d.doubles[..], statuses(&d.status)),
        (&[1.5, 0.0, 0.0][..], vec![Present, Invalid, NotFound])
    );
    assert_eq!((&i.ints[..], statuses(&i.status)), (&[7, 0, 0][..], vec![Present, Null, NotFound]));
    assert_eq!((s.strings[0].as_str(), statuses(&s.status)), ("x\ny", vec![Present, Null, NotFound]));
    assert_eq!((&j.json[0][..], statuses(&j.status)), (&b"[1, 2]"[..], vec![Present, Null, NotFound]));
    assert_eq!(
        (&b.bools[..], statuses(&b.status)),
        (&[false, true, false][..], vec![Present, Present, NotFound])
    );
    assert!(view.json.is_empty());
}

#[tokio::test]
async fn a_field_column_all_present_has_no_statuses_and_fields_come_in_the_order_asked() {
    let mut bed = Bed::new();
    bed.put("a", NOW, r#"{"i":7,"s":"x"}"#);
    let views = ViewSelections { views: vec![selection("points", &["s", "i"])] };
    let request = GetFeaturesRequest {
        selection: Some(Selection::Views(views)),
        format: Format::Typed as i32,
        ..of(&["a"])
    };
    let view = bed.view(request).await;
    let names: Vec<_> = view.fields.iter().map(|column| column.field.as_str()).collect();
    assert_eq!(names, ["s", "i"]);
    assert!(view.fields.iter().all(|column| column.status.is_empty()));
}

#[tokio::test]
async fn a_feature_service_is_its_highest_version_unless_named() {
    let mut bed = Bed::new();
    bed.put("a", NOW, r#"{"i":7,"s":"x"}"#);
    for (name, fields) in [("both", &["s", "i"][..]), ("both@2", &["s", "i"]), ("both@1", &["i"])] {
        let request = GetFeaturesRequest {
            selection: Some(Selection::FeatureService(name.into())),
            format: Format::Typed as i32,
            ..of(&["a"])
        };
        let view = bed.view(request).await;
        let names: Vec<_> = view.fields.iter().map(|column| column.field.as_str()).collect();
        assert_eq!(names, fields, "{name}");
    }
}

#[tokio::test]
async fn bad_40_as_of_before_history_is_not_found_and_in_the_future_is_the_latest() {
    let mut bed = Bed::new();
    bed.put("e", NOW - 20, r#"{"i":1}"#);
    bed.put("e", NOW - 10, r#"{"i":2}"#);
    bed.put_kind("e", NOW - 15, NOW - 5, Some(r#"{"i":3}"#));
    for (as_of, known_at, expected) in [
        (0, None, None),
        (NOW - 21, None, None),
        (NOW - 20, None, Some(1)),
        (NOW - 11, None, Some(3)),
        (NOW - 11, Some(NOW - 6), Some(1)),
        (NOW, None, Some(2)),
        (NOW + 100 * DAY, None, Some(2)),
        (i64::MAX, Some(i64::MAX), Some(2)),
    ] {
        let request = GetFeaturesRequest { as_of_ms: Some(as_of), known_at_ms: known_at, ..of(&["e"]) };
        let view = bed.view(request).await;
        let json = expected.map(|i| format!("{{\"i\":{i}}}")).unwrap_or_default();
        assert_eq!(view.json[0], json.as_bytes(), "as of {as_of}, known at {known_at:?}");
        let status = if expected.is_some() { ValueStatus::Present } else { ValueStatus::NotFound };
        assert_eq!(statuses(&view.status), [status]);
    }
}

#[tokio::test]
async fn history_comes_in_pages_that_fit_together() {
    let mut bed = Bed::new();
    for i in 0..25 {
        bed.put("e", NOW - 100 + i, &format!("{{\"i\":{i}}}"));
    }
    bed.put_kind("e", NOW - 90, NOW - 50, None);
    let (mut request, mut seen, mut pages) =
        (GetHistoryRequest { limit: 10, ..history_of("e") }, Vec::new(), 0);
    loop {
        let page = bed.history(request.clone()).await.unwrap();
        let versions = page.versions.unwrap();
        seen.extend(versions.event_time_ms.into_iter().zip(statuses(&versions.status)));
        pages += 1;
        if page.next_page_token.is_empty() {
            break;
        }
        request.page_token = page.next_page_token;
    }
    assert_eq!((pages, seen.len()), (3, 26));
    assert!(seen.is_sorted_by(|a, b| a.0 >= b.0));
    assert_eq!(seen.iter().filter(|(_, status)| *status == ValueStatus::Deleted).count(), 1);
    assert_eq!(seen.iter().position(|row| row.0 == NOW - 90), Some(14), "the tombstone wins the tie");
}

#[tokio::test]
async fn history_keeps_to_its_range_and_a_full_last_page_has_no_token() {
    let mut bed = Bed::new();
    for i in 0..10 {
        bed.put("e", NOW - 10 + i, &format!("{{\"i\":{i}}}"));
    }
    let request = GetHistoryRequest {
        from_ms: Some(NOW - 8),
        to_ms: Some(NOW - 5),
        limit: 3,
        format: Format::Typed as i32,
        fields: vec!["i".into()],
        ..history_of("e")
    };
    let page = bed.history(request).await.unwrap();
    assert!(page.next_page_token.is_empty());
    assert_eq!(page.versions.unwrap().fields[0].ints, [4, 3, 2]);
    let none = GetHistoryRequest { from_ms: Some(NOW), to_ms: Some(NOW), ..history_of("e") };
    assert!(bed.history(none).await.unwrap().versions.unwrap().status.is_empty());
}

#[tokio::test]
async fn an_answer_that_would_fill_the_memory_is_refused() {
    let mut bed = Bed::new();
    let context = Arc::get_mut(&mut bed.context).expect("nobody else has it");
    Arc::get_mut(&mut context.config).expect("nor this").read.max_message_bytes = 200;
    bed.put("e", NOW, &format!("{{\"s\":\"{}\"}}", "x".repeat(90)));
    for format in [Format::Json, Format::Typed] {
        let request = |count| GetFeaturesRequest { format: format as i32, ..of(&vec!["e"; count]) };
        assert!(bed.read(request(2)).await.is_ok());
        assert_eq!(bed.read(request(10)).await.unwrap_err().code(), tonic::Code::ResourceExhausted);
    }
}

#[tokio::test]
async fn a_lane_that_is_away_leaves_the_others_answered() {
    let mut bed = Bed::new();
    bed.put("e", NOW, r#"{"i":1}"#);
    let views = ViewSelections { views: vec![selection("remote", &[]), selection("points", &[])] };
    let request = GetFeaturesRequest { selection: Some(Selection::Views(views)), ..of(&["e"]) };
    let response = bed.read(request).await.unwrap();
    assert_eq!(statuses(&response.views[0].status), [ValueStatus::Unavailable]);
    assert_eq!(statuses(&response.views[1].status), [ValueStatus::Present]);
    assert_eq!(response.unavailable.len(), 1);
    assert_eq!(response.unavailable[0].lane, "away");
    assert!(response.unavailable[0].reason.contains("not here"));
}
