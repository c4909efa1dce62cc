//! What the verbs on domains, accounts and aliases share.

use mail_config::Config;
use mail_rpc::pb::directory::v1 as pb;
use pb::admin_response::Result as Answer;
use pb::directory_admin_service_client::DirectoryAdminServiceClient;
use tonic::transport::Channel;
use tonic::{Response, Status, Streaming};

use crate::failure::Failure;
use crate::output::warn;
use crate::suite::{call_failed, channel};

/// The daemon.
const NAME: &str = "directoryd";

/// Changes and lists the directory.
pub(crate) type Admin = DirectoryAdminServiceClient<Channel>;

pub(crate) async fn connect(config: &Config) -> Result<Admin, Failure> {
    let channel = channel(config, NAME, &config.rpc.directory_admin).await?;
    Ok(DirectoryAdminServiceClient::new(channel))
}

/// The result of a change; its warnings are printed.
pub(crate) fn done(
    response: Result<Response<pb::AdminResponse>, Status>,
) -> Result<pb::AdminDone, Failure> {
    let response = response.map_err(|status| failed(&status))?;
    match response.into_inner().result {
        Some(Answer::Done(done)) => {
            done.warnings.iter().for_each(|warning| warn(warning));
            Ok(done)
        }
        Some(Answer::Refused(refused)) => Err(Failure::Refused(refused.detail)),
        None => Err(Failure::Refused(format!("{NAME} gave no result"))),
    }
}

/// Calls `each` for each row.
pub(crate) async fn for_each<T>(
    rows: Result<Response<Streaming<T>>, Status>,
    mut each: impl FnMut(T) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let mut rows = rows.map_err(|status| failed(&status))?.into_inner();
    while let Some(row) = rows.message().await.map_err(|status| failed(&status))? {
        each(row)?;
    }
    Ok(())
}

fn failed(status: &Status) -> Failure {
    call_failed(NAME, status)
}
