//! Bugs put in on purpose, so that tests can show they would notice them. `FOREBAY_PLANT` names one; without the
//! feature `planted-bugs` every function here is a constant and the bugs are not in the program at all.

/// Every so many frames the planted bug strikes.
#[cfg(feature = "planted-bugs")]
const EVERY: u64 = 7;

#[cfg(feature = "planted-bugs")]
fn planted(name: &str) -> bool {
    use std::sync::OnceLock;
    static PLANT: OnceLock<String> = OnceLock::new();
    PLANT.get_or_init(|| std::env::var("FOREBAY_PLANT").unwrap_or_default()) == name
}

macro_rules! plants {
    ($($(#[$doc:meta])* $function:ident = $name:literal;)*) => {$(
        $(#[$doc])*
        #[inline]
        pub(crate) fn $function() -> bool {
            #[cfg(feature = "planted-bugs")]
            return planted($name);
            #[cfg(not(feature = "planted-bugs"))]
            false
        }
    )*};
}

plants! {
    /// Positions become durable without a sync.
    skips_sync = "skip_sync";
    /// A late value becomes the current one.
    reorders = "reorder";
    /// Late values vanish.
    loses_late = "lose_late";
    /// A value wins against a tombstone of the same time.
    tombstones_lose_ties = "tombstone_tie";
    /// Data points at or below the position are applied again.
    replays = "replay";
    /// Checksums of records are not looked at.
    skips_verify = "skip_verify";
    /// New names in a directory are not synced.
    skips_dir_sync = "skip_dir_sync";
    /// A MANIFEST takes the place of the old one before it is on the disk.
    skips_manifest_sync = "skip_manifest_sync";
    /// A new segment is named before it is on the disk.
    skips_segment_sync = "skip_segment_sync";
    /// Readers see a frame before it is written.
    publishes_first = "publish_first";
    /// A failed sync is forgotten, and tried again.
    syncs_again = "sync_again";
    /// A footer lacks its segment's last record.
    short_footers = "short_footer";
    /// Segments stay removed though their numbers are used again.
    keeps_holes = "keep_hole";
    /// An opening takes what it read for written.
    trusts_cache = "trust_cache";
    /// Expiry asks only the clock, whatever has been ingested.
    trusts_clock = "trust_clock";
    /// Entities whose ids begin alike share a hash.
    shares_hashes = "share_hashes";
}

/// Whether the records of this frame are dropped, though its positions advance.
#[inline]
pub(crate) fn drops_frame(sequence: u64) -> bool {
    #[cfg(feature = "planted-bugs")]
    return planted("drop_frame") && sequence.is_multiple_of(EVERY);
    #[cfg(not(feature = "planted-bugs"))]
    {
        let _ = sequence;
        false
    }
}
