//! Pulling an image, with progress added up over its layers.

use super::super::{PullProgress, Result, RuntimeError};
use super::DockerRuntime;
use super::credentials::{self, Credentials};
use super::reference::Reference;
use bollard::models::CreateImageInfo;
use bollard::query_parameters::CreateImageOptions;
use futures_util::StreamExt;
use std::collections::BTreeMap;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::Instant;

const PROGRESS_EVERY: Duration = Duration::from_millis(250);

pub async fn pull(docker: &DockerRuntime, text: &str, progress: &mpsc::Sender<PullProgress>) -> Result<()> {
    let refused = |why: String| RuntimeError::Pull { image: text.to_owned(), why };
    let reference = Reference::parse(text).map_err(|why| refused(why.into()))?;
    let key = reference.credentials_key();
    let (credentials, trouble) = match credentials::find(&docker.config_dir, key).await {
        Ok(found) => (found, None),
        Err(why) => (None, Some(why)),
    };
    if let Some(why) = &trouble {
        tracing::warn!(image = text, %why, "pulling without credentials");
    }
    // Dropped by the caller, the connection closes, and Docker gives the pull up.
    read(docker, &reference, credentials.as_ref(), progress).await.map_err(|error| match error {
        RuntimeError::Refused { why, .. } | RuntimeError::NotFound { name: why, .. } => {
            let why = credentials.as_ref().map_or(why.clone(), |c| c.redact(&why));
            refused(match trouble {
                Some(trouble) => format!("{why} (asked without credentials: {trouble})"),
                None => why,
            })
        }
        other => other,
    })
}

async fn read(
    docker: &DockerRuntime,
    reference: &Reference,
    credentials: Option<&Credentials>,
    progress: &mpsc::Sender<PullProgress>,
) -> Result<()> {
    let options = CreateImageOptions {
        from_image: Some(reference.name()),
        tag: Some(reference.version().to_owned()),
        ..Default::default()
    };
    let credentials = credentials.map(|c| c.for_docker(reference.credentials_key()));
    let client = docker.connection.client().await?;
    let mut news = client.create_image(Some(options), None, credentials);
    let mut layers = Layers::default();
    let mut told = Instant::now();
    while let Some(item) = news.next().await {
        let item = item.map_err(|e| match e {
            // The status of a refusal is the registry's or the daemon's, and says nothing about a container or a network.
            bollard::errors::Error::DockerResponseServerError { message, .. } => {
                bollard::errors::Error::DockerStreamError { error: message }
            }
            other => other,
        });
        layers.see(&item.map_err(|e| docker.connection.fault("pull", e))?);
        if told.elapsed() >= PROGRESS_EVERY {
            told = Instant::now();
            // Whoever looks on slowly misses a figure, and the pull does not wait.
            let _ = progress.try_send(layers.sum());
        }
    }
    // With containerd's image store some layers never say that they are done.
    let layers = layers.all_done();
    let _ = progress.try_send(layers.sum());
    Ok(())
}

#[derive(Default)]
struct Layers(BTreeMap<String, Layer>);

#[derive(Default)]
struct Layer {
    done: bool,
    bytes_done: u64,
    bytes: u64,
}

impl Layers {
    fn see(&mut self, news: &CreateImageInfo) {
        let (Some(id), Some(status)) = (&news.id, news.status.as_deref()) else {
            return;
        };
        // `Pulling from library/app` carries the tag where others carry a layer.
        if status.starts_with("Pulling from") {
            return;
        }
        let layer = self.0.entry(id.clone()).or_default();
        let number = |value: Option<i64>| value.and_then(|n| u64::try_from(n).ok());
        let detail = news.progress_detail.as_ref();
        match status {
            "Downloading" => {
                layer.bytes = number(detail.and_then(|d| d.total)).unwrap_or(layer.bytes);
                layer.bytes_done = number(detail.and_then(|d| d.current)).unwrap_or(layer.bytes_done);
            }
            "Download complete" | "Verifying Checksum" => layer.bytes_done = layer.bytes,
            "Pull complete" | "Already exists" => {
                layer.bytes_done = layer.bytes;
                layer.done = true;
            }
            _ => {}
        }
    }

    fn all_done(mut self) -> Self {
        for layer in self.0.values_mut() {
            layer.done = true;
            layer.bytes_done = layer.bytes;
        }
        self
    }

    fn sum(&self) -> PullProgress {
        let layers = self.0.values();
        PullProgress {
            layers_done: layers.clone().filter(|l| l.done).count() as u32,
            layers: self.0.len() as u32,
            bytes_done: layers.clone().map(|l| l.bytes_done).sum(),
            bytes: layers.map(|l| l.bytes).sum(),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use bollard::models::ProgressDetail;

    fn news(id: &str, status: &str, detail: Option<(i64, i64)>) -> CreateImageInfo {
        let progress_detail =
            detail.map(|(current, total)| ProgressDetail { current: Some(current), total: Some(total) });
        CreateImageInfo { id: Some(id.into()), status: Some(status.into()), progress_detail, ..Default::default() }
    }

    #[test]
    fn progress_adds_up_over_layers() {
        let mut layers = Layers::default();
        for item in [
            news("1.2", "Pulling from team/app", None),
            news("a", "Pulling fs layer", None),
            news("b", "Already exists", None),
            news("a", "Downloading", Some((30, 100))),
        ] {
            layers.see(&item);
        }
        assert_eq!(layers.sum(), PullProgress { layers_done: 1, layers: 2, bytes_done: 30, bytes: 100 });
        layers.see(&news("a", "Download complete", None));
        layers.see(&news("a", "Extracting", Some((5, 100))));
        assert_eq!(layers.sum(), PullProgress { layers_done: 1, layers: 2, bytes_done: 100, bytes: 100 });
        layers.see(&news("a", "Pull complete", None));
        assert_eq!(layers.sum().layers_done, 2);
    }
}
