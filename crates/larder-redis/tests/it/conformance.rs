//! The suite that every backend passes.

use std::sync::Arc;

use larder_testing::{
    RedisServer,
    conformance::{Fixture, Power},
};

use crate::server::backend_of;

async fn fixture() -> Fixture {
    let server = RedisServer::start();
    let backend = backend_of(&server).await;
    Fixture::new(Arc::new(backend)).powers(Power::ALL).keep(server)
}

larder_testing::conformance_tests!(fixture);
