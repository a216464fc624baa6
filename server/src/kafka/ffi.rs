//! The librdkafka calls that have no safe wrapper: a consumer's event queue with every event's topic and offset, the
//! cached end of a partition, and topic descriptions with their ids. The only unsafe code of this crate; `consumer` and
//! `topics` are its only callers.

use std::ffi::{CStr, CString, c_char};
use std::ptr::{self, NonNull};
use std::slice;
use std::sync::Arc;
use std::time::Duration;

use rdkafka::TopicPartitionList;
use rdkafka::bindings as rd;
use rdkafka::consumer::Consumer as _;
use rdkafka::types::RDKafkaRespErr;

use super::Consumer;

/// Topic, partition, offset as an event names them.
pub type Place = (String, i32, i64);

/// What a poll brought.
pub enum Polled {
    /// Nothing within the time.
    Nothing,
    /// A message.
    Message(RawMessage),
    /// Partitions given to this member.
    Assign(Vec<(String, i32)>),
    /// Partitions taken from it.
    Revoke,
    /// Offsets were committed, or not.
    Committed(Result<(), String>),
    /// An error; of a partition where `place` says so.
    Error { code: RDKafkaRespErr, text: String, fatal: bool, place: Option<Place> },
    /// Something else, for no one here.
    Other,
}

/// The queue of a consumer in a group, on which everything arrives in order.
pub struct EventQueue {
    queue: NonNull<rd::rd_kafka_queue_t>,
    consumer: Arc<Consumer>,
}

// SAFETY: librdkafka's queues may be used from any thread; the consumer is kept alive by the Arc.
unsafe impl Send for EventQueue {}

impl EventQueue {
    /// The queue of `consumer`; absent if it is in no group.
    pub fn of(consumer: Arc<Consumer>) -> Option<Self> {
        // SAFETY: the client pointer is valid while `consumer` lives; the returned reference is released in `drop`.
        let queue = unsafe { rd::rd_kafka_queue_get_consumer(consumer.client().native_ptr()) };
        Some(EventQueue { queue: NonNull::new(queue)?, consumer })
    }

    /// Waits for the next event.
    pub fn poll(&self, timeout: Duration) -> Polled {
        let timeout_ms = i32::try_from(timeout.as_millis()).unwrap_or(i32::MAX);
        // SAFETY: the queue is valid until `drop`; an event is owned by us and destroyed by `Event`.
        let event = unsafe { rd::rd_kafka_queue_poll(self.queue.as_ptr(), timeout_ms) };
        match NonNull::new(event) {
            Some(event) => Event(event).read(),
            None => Polled::Nothing,
        }
    }

    /// Commits offsets; the answer comes as a `Committed` event. (The wrapper's own asynchronous commit gives none.)
    pub fn commit(&self, offsets: &TopicPartitionList) -> Result<(), String> {
        let client = self.consumer.client().native_ptr();
        // SAFETY: valid client, list and queue; the list is copied, and no callback is given that could outlive us.
        let code = unsafe {
            rd::rd_kafka_commit_queue(client, offsets.ptr(), self.queue.as_ptr(), None, ptr::null_mut())
        };
        match code {
            RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR => Ok(()),
            // SAFETY: librdkafka's own constant strings.
            code => Err(unsafe { text(rd::rd_kafka_err2str(code)) }),
        }
    }

    /// The consumer whose queue it is.
    pub fn consumer(&self) -> &Arc<Consumer> {
        &self.consumer
    }
}

impl Drop for EventQueue {
    fn drop(&mut self) {
        // SAFETY: the reference taken in `of` is released once; fields drop after this, so the client still lives.
        unsafe { rd::rd_kafka_queue_destroy(self.queue.as_ptr()) }
    }
}

/// An event we own.
struct Event(NonNull<rd::rd_kafka_event_t>);

impl Drop for Event {
    fn drop(&mut self) {
        // SAFETY: owned, and destroyed nowhere else.
        unsafe { rd::rd_kafka_event_destroy(self.0.as_ptr()) }
    }
}

impl Event {
    fn read(self) -> Polled {
        // SAFETY: the event is valid while `self` lives.
        match unsafe { rd::rd_kafka_event_type(self.0.as_ptr()) } {
            rd::RD_KAFKA_EVENT_FETCH => self.message(),
            rd::RD_KAFKA_EVENT_ERROR => self.error(),
            rd::RD_KAFKA_EVENT_REBALANCE => self.rebalance(),
            rd::RD_KAFKA_EVENT_OFFSET_COMMIT => Polled::Committed(self.outcome()),
            _ => Polled::Other,
        }
    }

    fn message(self) -> Polled {
        // SAFETY: valid event; the message it gives lives as long as the event, which `RawMessage` keeps.
        let message = unsafe { rd::rd_kafka_event_message_next(self.0.as_ptr()) };
        match NonNull::new(message.cast_mut()) {
            Some(message) => Polled::Message(RawMessage { message, _event: self }),
            None => Polled::Other,
        }
    }

    fn code(&self) -> RDKafkaRespErr {
        // SAFETY: valid event.
        unsafe { rd::rd_kafka_event_error(self.0.as_ptr()) }
    }

    fn text(&self) -> String {
        // SAFETY: valid event; the string lives as long as it and is copied here.
        unsafe { text(rd::rd_kafka_event_error_string(self.0.as_ptr())) }
    }

    fn outcome(&self) -> Result<(), String> {
        match self.code() {
            RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR | RDKafkaRespErr::RD_KAFKA_RESP_ERR__NO_OFFSET => {
                Ok(())
            }
            _ => Err(self.text()),
        }
    }

    fn error(&self) -> Polled {
        // SAFETY: valid event.
        let fatal = unsafe { rd::rd_kafka_event_error_is_fatal(self.0.as_ptr()) } != 0;
        Polled::Error { code: self.code(), text: self.text(), fatal, place: self.place() }
    }

    fn place(&self) -> Option<Place> {
        // SAFETY: valid event; what is returned is ours, read here and destroyed once.
        unsafe {
            let place = rd::rd_kafka_event_topic_partition(self.0.as_ptr());
            let read = place.as_ref().map(|place| (text(place.topic), place.partition, place.offset));
            if !place.is_null() {
                rd::rd_kafka_topic_partition_destroy(place);
            }
            read
        }
    }

    fn rebalance(&self) -> Polled {
        if self.code() != RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS {
            return Polled::Revoke;
        }
        // SAFETY: valid event; the list is its own and only read while it lives.
        unsafe {
            let list = rd::rd_kafka_event_topic_partition_list(self.0.as_ptr());
            let Some(list) = list.as_ref().filter(|list| list.cnt > 0) else {
                return Polled::Assign(Vec::new());
            };
            let elements = slice::from_raw_parts(list.elems, list.cnt as usize);
            Polled::Assign(elements.iter().map(|element| (text(element.topic), element.partition)).collect())
        }
    }
}

/// A consumed message in librdkafka's memory.
pub struct RawMessage {
    message: NonNull<rd::rd_kafka_message_t>,
    _event: Event,
}

// SAFETY: a message is only read, and librdkafka lets any thread destroy an event.
unsafe impl Send for RawMessage {}

impl RawMessage {
    fn get(&self) -> &rd::rd_kafka_message_t {
        // SAFETY: lives as long as the event beside it.
        unsafe { self.message.as_ref() }
    }

    /// Same for messages of the same topic as long as the client lives.
    pub fn topic_address(&self) -> usize {
        self.get().rkt as usize
    }

    /// Topic name.
    pub fn topic(&self) -> &str {
        // SAFETY: the topic handle lives as long as the message, its name as long as the handle.
        unsafe { CStr::from_ptr(rd::rd_kafka_topic_name(self.get().rkt)) }.to_str().unwrap_or_default()
    }

    /// Partition.
    pub fn partition(&self) -> i32 {
        self.get().partition
    }

    /// Offset.
    pub fn offset(&self) -> i64 {
        self.get().offset
    }

    /// Kafka's timestamp in ms, -1 if it has none.
    pub fn timestamp_ms(&self) -> i64 {
        let mut kind = rd::rd_kafka_timestamp_type_t::RD_KAFKA_TIMESTAMP_NOT_AVAILABLE;
        // SAFETY: valid message, valid place for the answer.
        unsafe { rd::rd_kafka_message_timestamp(self.message.as_ptr(), &mut kind) }
    }

    /// The key; absent if it is null.
    pub fn key(&self) -> Option<&[u8]> {
        // SAFETY: librdkafka gives a valid range or a null pointer; it lives as long as the message.
        unsafe { bytes(self.get().key.cast(), self.get().key_len) }
    }

    /// The payload; absent if it is null.
    pub fn payload(&self) -> Option<&[u8]> {
        // SAFETY: as for the key.
        unsafe { bytes(self.get().payload.cast(), self.get().len) }
    }

    /// The headers, in order.
    pub fn headers(&self) -> Vec<(&[u8], Option<&[u8]>)> {
        let mut headers = ptr::null_mut();
        let mut found = Vec::new();
        // SAFETY: valid message; the parsed headers belong to it, names and values live as long as it does.
        unsafe {
            let none = RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR;
            if rd::rd_kafka_message_headers(self.message.as_ptr(), &mut headers) != none {
                return found;
            }
            let (mut name, mut value, mut size) = (ptr::null(), ptr::null(), 0);
            while rd::rd_kafka_header_get_all(headers, found.len(), &mut name, &mut value, &mut size) == none
            {
                found.push((CStr::from_ptr(name).to_bytes(), bytes(value.cast(), size)));
            }
        }
        found
    }
}

/// The bytes at `at`, absent if it is null.
///
/// # Safety
/// `at` is null or valid for `len` bytes during `'a`.
unsafe fn bytes<'a>(at: *const u8, len: usize) -> Option<&'a [u8]> {
    // SAFETY: by the caller's word.
    (!at.is_null()).then(|| unsafe { slice::from_raw_parts(at, len) })
}

/// A copy of a C string, empty if there is none.
///
/// # Safety
/// `at` is null or a valid C string.
unsafe fn text(at: *const c_char) -> String {
    if at.is_null() {
        return String::new();
    }
    // SAFETY: by the caller's word.
    unsafe { CStr::from_ptr(at) }.to_string_lossy().into_owned()
}

/// The end offset of a consumed partition as the last fetch said; absent before the first.
pub fn cached_end(consumer: &Consumer, topic: &CStr, partition: i32) -> Option<i64> {
    let (mut low, mut high) = (-1, -1);
    // SAFETY: valid client, valid string, valid places for the answers.
    let code = unsafe {
        let client = consumer.client().native_ptr();
        rd::rd_kafka_get_watermark_offsets(client, topic.as_ptr(), partition, &mut low, &mut high)
    };
    (code == RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR && high >= 0).then_some(high)
}

/// What the broker says of one topic.
pub struct Described {
    /// Its name.
    pub name: String,
    /// Its id (zeros if the broker has none) and partition count, or why it could not be described.
    pub found: Result<([u8; 16], u32), (RDKafkaRespErr, String)>,
}

/// Asks one broker to describe topics; without one, the controller.
pub fn describe(
    consumer: &Consumer,
    broker: Option<i32>,
    names: &[&str],
    timeout: Duration,
) -> Result<Vec<Described>, String> {
    let names: Vec<CString> = names.iter().filter_map(|name| CString::new(*name).ok()).collect();
    let mut pointers: Vec<*const c_char> = names.iter().map(|name| name.as_ptr()).collect();
    let timeout_ms = timeout.as_millis() as i32;
    let client = consumer.client().native_ptr();
    // SAFETY: every object made here is destroyed here, after its last use; the names outlive the call that copies them.
    unsafe {
        let collection = rd::rd_kafka_TopicCollection_of_topic_names(pointers.as_mut_ptr(), pointers.len());
        let options =
            rd::rd_kafka_AdminOptions_new(client, rd::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_DESCRIBETOPICS);
        rd::rd_kafka_AdminOptions_set_request_timeout(options, timeout_ms, ptr::null_mut(), 0);
        if let Some(broker) = broker {
            rd::rd_kafka_AdminOptions_set_broker(options, broker, ptr::null_mut(), 0);
        }
        let queue = rd::rd_kafka_queue_new(client);
        rd::rd_kafka_DescribeTopics(client, collection, options, queue);
        let event = rd::rd_kafka_queue_poll(queue, timeout_ms + 500);
        let answer = NonNull::new(event).map(|event| described(&Event(event)));
        rd::rd_kafka_queue_destroy(queue);
        rd::rd_kafka_AdminOptions_destroy(options);
        rd::rd_kafka_TopicCollection_destroy(collection);
        answer.unwrap_or_else(|| Err("no answer from the broker in time".into()))
    }
}

fn described(event: &Event) -> Result<Vec<Described>, String> {
    event.outcome()?;
    let mut count = 0;
    // SAFETY: valid event of the right kind (else the result is null); all it gives lives as long as it.
    unsafe {
        let result = rd::rd_kafka_event_DescribeTopics_result(event.0.as_ptr());
        if result.is_null() {
            return Err("the broker's answer was of another kind".into());
        }
        let topics = rd::rd_kafka_DescribeTopics_result_topics(result, &mut count);
        let topics = if count == 0 { &[][..] } else { slice::from_raw_parts(topics, count) };
        Ok(topics.iter().map(|topic| described_topic(*topic)).collect())
    }
}

/// # Safety
/// `topic` is valid.
unsafe fn described_topic(topic: *const rd::rd_kafka_TopicDescription_t) -> Described {
    // SAFETY: by the caller's word; what it gives lives as long as it and is copied here.
    unsafe {
        let name = text(rd::rd_kafka_TopicDescription_name(topic));
        let error = rd::rd_kafka_TopicDescription_error(topic);
        if !error.is_null() && rd::rd_kafka_error_code(error) != RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR {
            let found = Err((rd::rd_kafka_error_code(error), text(rd::rd_kafka_error_string(error))));
            return Described { name, found };
        }
        let mut partitions = 0;
        rd::rd_kafka_TopicDescription_partitions(topic, &mut partitions);
        let id = rd::rd_kafka_TopicDescription_topic_id(topic);
        let mut bytes = [0; 16];
        if !id.is_null() {
            bytes[..8].copy_from_slice(&rd::rd_kafka_Uuid_most_significant_bits(id).to_be_bytes());
            bytes[8..].copy_from_slice(&rd::rd_kafka_Uuid_least_significant_bits(id).to_be_bytes());
        }
        Described { name, found: Ok((bytes, partitions as u32)) }
    }
}
