//! Tests of the public interface.

mod fence;
mod flight;
mod model;
mod soak;

use std::any::TypeId;

use larder_flight::FlightId;

const fn id() -> FlightId {
    FlightId { value: TypeId::of::<u32>(), error: TypeId::of::<()>(), options: 0 }
}
