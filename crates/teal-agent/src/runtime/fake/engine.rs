//! The engine in memory as the agent sees it.

use super::super::Status;
use super::*;
use teal_model::api::DescribedContainer;
use teal_model::config::{ContainerSettings, Service};

const EVENTS_KEPT: usize = 1024;

impl FakeRuntime {
    /// Effects are journaled by name, however the caller names the container.
    fn name_of(&self, id: &str) -> String {
        self.world().find(id).map_or_else(|| id.to_owned(), |c| c.name)
    }
}

#[async_trait]
impl Runtime for FakeRuntime {
    async fn engine(&self) -> Result<Engine> {
        self.look(|world| Ok(world.engine.clone())).await
    }

    async fn closed(&self) -> Result<Option<String>> {
        self.look(|world| Ok(world.closed.clone())).await
    }

    async fn image(&self, reference: &str) -> Result<Option<Image>> {
        self.look(|world| Ok(world.image(reference))).await
    }

    async fn images(&self) -> Result<Vec<ImageOnDisk>> {
        self.look(|world| Ok(world.images_on_disk())).await
    }

    async fn pull(&self, reference: &str, progress: mpsc::Sender<PullProgress>) -> Result<Image> {
        let image = self.effect(Op::Pull, reference, |world| world.pull(reference)).await?;
        let _ = progress.try_send(PullProgress { layers_done: 1, layers: 1, bytes_done: 1, bytes: 1 });
        Ok(image)
    }

    async fn ensure_network(&self, spec: &NetworkSpec) -> Result<NetworkFacts> {
        self.effect(Op::EnsureNetwork, &spec.name, |world| world.ensure_network(spec)).await
    }

    async fn network_addresses(&self, name: &str) -> Result<BTreeMap<IpAddr, String>> {
        self.look(|world| world.network_addresses(name)).await
    }

    async fn networks(&self, labels: &[(&str, &str)]) -> Result<Vec<String>> {
        self.look(|world| Ok(world.networks_labelled(labels))).await
    }

    async fn remove_network(&self, name: &str, agent: &str) -> Result<bool> {
        self.effect(Op::RemoveNetwork, name, |world| Ok(world.remove_network(name, agent))).await
    }

    async fn ensure_volume(
        &self,
        name: &str,
        _: Option<&str>,
        _: &BTreeMap<String, String>,
        _: &BTreeMap<String, String>,
    ) -> Result<()> {
        self.effect(Op::EnsureVolume, name, |world| Ok(((), world.volumes.insert(name.to_owned())))).await
    }

    async fn volume_users(&self, name: &str) -> Result<Vec<String>> {
        self.look(|world| Ok(world.volume_users(name))).await
    }

    async fn remove_volume(&self, name: &str) -> Result<()> {
        self.effect(Op::RemoveVolume, name, |world| Ok(((), world.remove_volume(name)?))).await
    }

    async fn ensure_container(&self, spec: &ContainerSpec) -> Result<Container> {
        self.effect(Op::EnsureContainer, &spec.name, |world| world.create(spec)).await
    }

    async fn start(&self, id: &str) -> Result<()> {
        self.effect(Op::Start, &self.name_of(id), |world| Ok(((), world.start(id)?))).await
    }

    /// The engine goes on stopping when the caller is gone, as Docker does.
    async fn stop(&self, id: &str, grace: Duration) -> Result<()> {
        let name = self.name_of(id);
        let wait = self
            .effect(Op::Stop, &name, |world| {
                let wait = world.ask_to_stop(id, grace);
                Ok((wait, wait.is_some()))
            })
            .await?;
        if let Some(wait) = wait {
            tokio::time::sleep(wait).await;
            self.look(|_| Ok(())).await?;
        }
        Ok(())
    }

    async fn remove(&self, id: &str, force: bool) -> Result<()> {
        self.effect(Op::Remove, &self.name_of(id), |world| Ok(((), world.remove(id, force)?))).await
    }

    async fn remove_with_volumes(&self, id: &str) -> Result<()> {
        self.effect(Op::Remove, &self.name_of(id), |world| Ok(((), world.remove_with_volumes(id)?))).await
    }

    async fn connect(&self, id: &str, place: &Place) -> Result<()> {
        let on = format!("{} {}", self.name_of(id), place.network);
        self.effect(Op::Connect, &on, |world| Ok(((), world.connect(id, place)?))).await
    }

    async fn disconnect(&self, id: &str, network: &str) -> Result<()> {
        let on = format!("{} {network}", self.name_of(id));
        self.effect(Op::Disconnect, &on, |world| Ok(((), world.disconnect(id, network)?))).await
    }

    async fn write_files(&self, id: &str, files: &[FileToWrite]) -> Result<()> {
        self.effect(Op::WriteFiles, &self.name_of(id), |world| Ok(((), world.write_files(id, files)?))).await
    }

    async fn holder_image(&self) -> Result<Image> {
        self.effect(Op::LoadHolder, "holder", World::holder_image).await
    }

    async fn remove_image(&self, reference: &str) -> Result<bool> {
        self.effect(Op::RemoveImage, reference, |world| {
            let removed = world.remove_image(reference);
            Ok((removed, removed))
        })
        .await
    }

    async fn tag_image(&self, id: &str, name: &str) -> Result<()> {
        self.effect(Op::TagImage, name, |world| Ok(((), world.name_image(name, id).as_deref() != Some(id)))).await
    }

    async fn rename(&self, id: &str, name: &str) -> Result<()> {
        self.effect(Op::Rename, &self.name_of(id), |world| Ok(((), world.rename(id, name)?))).await
    }

    async fn set_restart(&self, id: &str, restart: Restart) -> Result<()> {
        self.effect(Op::SetRestart, &self.name_of(id), |world| Ok(((), world.set_restart(id, restart)?))).await
    }

    async fn inspect(&self, id: &str) -> Result<Option<Container>> {
        self.look(|world| match world.inspections_fail {
            true => Err(RuntimeError::Refused { what: format!("inspect container {id}"), why: "try again".into() }),
            false => Ok(world.find(id)),
        })
        .await
    }

    async fn describe(&self, name: &str) -> Result<Option<DescribedContainer>> {
        let Some(seen) = self.inspect(name).await? else { return Ok(None) };
        let container = ContainerSettings { image: seen.image_id, ..ContainerSettings::default() };
        Ok(Some(DescribedContainer {
            running: seen.status == Status::Running,
            service: Service { container, ..Service::default() },
            id: seen.id,
            name: seen.name,
            ..DescribedContainer::default()
        }))
    }

    async fn list(&self, labels: &[(&str, &str)]) -> Result<Vec<Container>> {
        let all = self.look(|world| Ok(world.containers())).await?;
        let carries = |c: &Container| labels.iter().all(|(k, v)| c.labels.get(*k).is_some_and(|have| have == v));
        Ok(all.into_iter().filter(carries).collect())
    }

    async fn publishing(&self, port: u16) -> Result<Vec<String>> {
        self.look(|world| Ok(world.publishing(port))).await
    }

    async fn tail(&self, id: &str, lines: u32) -> Result<Vec<LogLine>> {
        let (mut all, _) = self.look(|world| world.log(id)).await?;
        Ok(all.split_off(all.len().saturating_sub(lines as usize)))
    }

    async fn logs(&self, id: &str, lines: u32, follow: bool, to: mpsc::Sender<LogLine>) -> Result<()> {
        let mut from = {
            let (all, _) = self.look(|world| world.log(id)).await?;
            all.len().saturating_sub(lines as usize)
        };
        loop {
            let said = self.world().said.clone();
            let mut waiting = std::pin::pin!(said.notified());
            waiting.as_mut().enable();
            let Ok((all, running)) = self.look(|world| world.log(id)).await else {
                return Ok(());
            };
            for line in all.into_iter().skip(from) {
                from += 1;
                if to.send(line).await.is_err() {
                    return Ok(());
                }
            }
            if !follow || !running {
                return Ok(());
            }
            tokio::select! {
                () = waiting => {}
                () = to.closed() => return Ok(()),
            }
        }
    }

    async fn events(&self, labels: &[(&str, &str)]) -> Result<mpsc::Receiver<ContainerEvent>> {
        let (to, events) = mpsc::channel(EVENTS_KEPT);
        self.look(|world| {
            world.subscribe(labels, to);
            Ok(())
        })
        .await?;
        Ok(events)
    }

    async fn exec(
        &self,
        id: &str,
        command: &[String],
        _tty: bool,
        _input: mpsc::Receiver<Vec<u8>>,
        output: mpsc::Sender<Vec<u8>>,
    ) -> Result<i64> {
        let on = format!("{} {}", self.name_of(id), command.join(" "));
        let (text, code) = self.effect(Op::Exec, &on, |world| Ok((world.exec(id)?, true))).await?;
        if !text.is_empty() {
            let _ = output.send(text.into_bytes()).await;
        }
        Ok(code)
    }
}
