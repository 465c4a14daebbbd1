//! GPU timestamp queries.

use std::time::Duration;

/// Timestamps at the beginning and at the end of a submission.
#[derive(Debug)]
pub(super) struct TimestampQueries {
    queries: wgpu::QuerySet,
    resolved: wgpu::Buffer,
}

impl TimestampQueries {
    /// Required device features.
    pub(super) const FEATURES: wgpu::Features =
        wgpu::Features::TIMESTAMP_QUERY.union(wgpu::Features::TIMESTAMP_QUERY_INSIDE_ENCODERS);
    /// Bytes of both timestamps.
    pub(super) const NUM_BYTES: u64 = 2 * size_of::<u64>() as u64;

    /// `None` if the device does not support timestamp queries.
    pub(super) fn new(device: &wgpu::Device) -> Option<Self> {
        device.features().contains(Self::FEATURES).then(|| Self {
            queries: device.create_query_set(&wgpu::QuerySetDescriptor {
                label: Some("timestamps"),
                ty: wgpu::QueryType::Timestamp,
                count: 2,
            }),
            resolved: device.create_buffer(&wgpu::BufferDescriptor {
                label: Some("timestamps"),
                size: Self::NUM_BYTES,
                usage: wgpu::BufferUsages::QUERY_RESOLVE | wgpu::BufferUsages::COPY_SRC,
                mapped_at_creation: false,
            }),
        })
    }

    pub(super) fn start(&self, encoder: &mut wgpu::CommandEncoder) {
        encoder.write_timestamp(&self.queries, 0);
    }

    /// Copies both timestamps to the readback buffer.
    pub(super) fn stop(&self, encoder: &mut wgpu::CommandEncoder, buffer: &wgpu::Buffer, offset: u64) {
        encoder.write_timestamp(&self.queries, 1);
        encoder.resolve_query_set(&self.queries, 0..2, &self.resolved, 0);
        encoder.copy_buffer_to_buffer(&self.resolved, 0, buffer, offset, Self::NUM_BYTES);
    }
}

/// Time between two timestamps.
pub(super) fn elapsed(bytes: &[u8], nanos_per_tick: f32) -> Duration {
    let [start, stop] = [0, 1].map(|i| {
        let ticks = bytes.as_chunks::<8>().0.get(i);
        ticks.map_or(0, |ticks| u64::from_le_bytes(*ticks))
    });
    Duration::from_nanos((stop.saturating_sub(start) as f64 * f64::from(nanos_per_tick)) as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_converted_to_time() {
        let bytes = [1_000_000_u64, 3_000_000].map(u64::to_le_bytes).concat();
        assert_eq!(elapsed(&bytes, 32.0), Duration::from_millis(64));
        let turned = [3_u64, 1].map(u64::to_le_bytes).concat();
        assert_eq!(elapsed(&turned, 1.0), Duration::ZERO, "a clock that was reset");
    }
}
