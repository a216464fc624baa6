//! Free text as call-center agents write it. Used by payload templates only.

use super::random::Random;

const OPENINGS: [&str; 12] = [
    "Customer reports",
    "Caller says",
    "Cust states",
    "Verified",
    "Agent noted",
    "Follow up:",
    "Spouse called,",
    "Second call about",
    "Chat transcript mentions",
    "Tech confirmed",
    "Checked",
    "Customer is upset about",
];
const SUBJECTS: [&str; 16] = [
    "slow internet",
    "no connection at all",
    "Wi-Fi dropping",
    "buffering on the TV",
    "a noisy phone line",
    "gateway rebooting",
    "an extender that stays offline",
    "poor signal",
    "video calls freezing",
    "a wrong charge on the bill",
    "port forwarding not working",
    "speed below plan",
    "a missed appointment",
    "packet loss in games",
    "the modem lights blinking",
    "devices that cannot join",
];
const PLACES: [&str; 14] = [
    "in the upstairs bedroom",
    "in the home office",
    "near the garage",
    "on every device",
    "on one laptop only",
    "since the last storm",
    "every evening around eight",
    "after the firmware update",
    "since Tuesday",
    "in the basement",
    "when the microwave runs",
    "on the 5 GHz band",
    "behind the aquarium",
    "at random times",
];
const ACTIONS: [&str; 16] = [
    "power cycled the gateway",
    "moved to channel",
    "sent a refresh signal",
    "replaced the splitter",
    "opened a ticket",
    "booked a technician",
    "explained the plan limits",
    "credited the account",
    "ran a line test",
    "reset the Wi-Fi password",
    "asked to plug in by cable",
    "tightened the coax",
    "escalated to tier two",
    "checked for an outage",
    "split the network names",
    "offered an extender",
];
const RESULTS: [&str; 10] = [
    "no change",
    "works now",
    "will call back",
    "speed is fine by cable",
    "signal levels look out of range",
    "customer declined",
    "issue persists",
    "waiting for parts",
    "resolved on the call",
    "needs a site visit",
];

/// Appends this many sentences; nothing in them needs escaping in JSON.
pub(super) fn push_sentences(out: &mut Vec<u8>, count: u64, random: &mut Random) {
    for at in 0..count {
        if at > 0 {
            out.push(b' ');
        }
        push_sentence(out, random.bits());
    }
}

fn push_sentence(out: &mut Vec<u8>, bits: u64) {
    let pick = |words: &[&'static str], shift: u32| words[(bits >> shift) as usize % words.len()];
    push(out, [pick(&OPENINGS, 0), " ", pick(&SUBJECTS, 8), " ", pick(&PLACES, 16)]);
    if bits >> 63 == 0 {
        push(out, ["; ", pick(&ACTIONS, 24), ", ", pick(&RESULTS, 32), ""]);
    }
    out.push(b'.');
}

fn push(out: &mut Vec<u8>, words: [&str; 5]) {
    words.iter().for_each(|word| out.extend_from_slice(word.as_bytes()));
}
