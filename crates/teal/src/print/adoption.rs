//! What is adopted, before and after.

use crate::print::Paint;
use crate::print::words::{counted, short_id};
use crate::verb::adopt::Proposal;
use teal_model::api::{AdoptedService, Adoption};

pub fn plan(adoption: &Adoption, paint: Paint) -> String {
    let new = adoption.services.iter().filter(|service| !service.already).count();
    let mut text = match new {
        0 => format!("{}: nothing to adopt\n", paint.bold(&adoption.project)),
        n => format!(
            "{}: {} to adopt, as they run, without a restart\n",
            paint.bold(&adoption.project),
            counted(n as u64, "service")
        ),
    };
    for service in &adoption.services {
        text.push('\n');
        text.push_str(&of_service(service, paint));
    }
    text.push_str(&left(adoption));
    text
}

fn of_service(service: &AdoptedService, paint: Paint) -> String {
    let name = paint.bold(&service.service.service);
    let mut text = match service.already {
        true => format!("{name}  adopted already, release {}\n", service.release),
        false => format!("{name}  becomes release {}\n", service.release),
    };
    let mut row =
        |name: &str, value: String| text.push_str(&format!("  {} {value}\n", paint.dim(&format!("{name:<10}"))));
    for (at, container) in service.containers.iter().enumerate() {
        let value = format!("{} ({})", container.name, container.container);
        row(if at == 0 { "containers" } else { "" }, value);
    }
    let image = service.containers.first().map(|container| short_id(&container.image_id)).unwrap_or_default();
    row("image", format!("{} ({image})", service.image));
    if !service.ports.is_empty() {
        row("ports", format!("{}: Docker's until the first deployment", service.ports.join(", ")));
    }
    if service.named {
        row("name", "its containers own it until the first deployment".to_owned());
    }
    for note in &service.notes {
        row("note", note.clone());
    }
    text
}

fn left(adoption: &Adoption) -> String {
    let lines: String = adoption.left.iter().map(|line| format!("  {line}\n")).collect();
    if lines.is_empty() { lines } else { format!("\nleft alone:\n{lines}") }
}

pub fn done(adoption: &Adoption) -> String {
    let mut text = String::new();
    for service in adoption.services.iter().filter(|service| !service.already) {
        let containers = counted(service.containers.len() as u64, "container");
        text.push_str(&format!("adopted {} as release {}: {containers}\n", service.service.service, service.release));
    }
    text.push_str("`teal plan` shows what the first deployment does; `teal adopt --undo` forgets the adoption\n");
    text
}

/// The file that would be written, and what would be adopted.
pub fn proposal(proposal: &Proposal, paint: Paint) -> String {
    let mut text = plan(&proposal.adoption, paint);
    text.push_str(&format!("\n{}\n{}", paint.bold(&proposal.file.display().to_string()), proposal.compose));
    for (file, names) in &proposal.secrets {
        let file = paint.bold(&file.display().to_string());
        text.push_str(&format!(
            "\n{file} (for its owner alone, since these may be secret; keep it out of version control)\n"
        ));
        for name in names {
            text.push_str(&format!("{name}=...\n"));
        }
    }
    text
}

pub fn taken(proposal: &Proposal) -> String {
    let mut text = format!("wrote {}\n", proposal.file.display());
    for file in proposal.secrets.keys() {
        text.push_str(&format!("wrote {}, mode 0600\n", file.display()));
    }
    text + &done(&proposal.adoption)
}

pub fn given_back(adoption: &Adoption, how: &str) -> String {
    let mut text = String::new();
    for service in &adoption.services {
        let names: Vec<&str> = service.containers.iter().map(|container| container.name.as_str()).collect();
        text.push_str(&format!("{}: {} {how}\n", service.service.service, names.join(", ")));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::print::golden;
    use teal_model::api::AdoptedContainer;
    use teal_model::ids::ServiceKey;

    fn adoption() -> Adoption {
        let web = AdoptedService {
            service: ServiceKey::new("shop", "web"),
            release: 1,
            already: false,
            image: "shop/web:1.4".to_owned(),
            containers: (1..=2)
                .map(|replica| AdoptedContainer {
                    container: format!("0a1b2c3d4e5{replica}"),
                    name: format!("shop-web-{replica}"),
                    replica,
                    image_id: "sha256:f00dfeedf00dfeed".to_owned(),
                })
                .collect(),
            ports: vec!["0.0.0.0:80".to_owned(), "[::]:80".to_owned()],
            named: true,
            notes: vec!["2 run and the file says 3: `teal deploy` brings them".to_owned()],
        };
        Adoption {
            project: "shop".to_owned(),
            deployment: None,
            services: vec![web],
            left: vec!["db: no container of Compose runs".to_owned()],
        }
    }

    #[test]
    fn what_is_to_be_adopted_is_shown_before() {
        golden("adopt.txt", &plan(&adoption(), Paint::NONE));
        golden("adopted.txt", &done(&adoption()));
    }

    #[test]
    fn the_file_is_shown_before_it_is_written_and_secrets_are_not() {
        let proposal = Proposal {
            adoption: adoption(),
            file: "/srv/shop/compose.yaml".into(),
            compose: "name: shop\nservices:\n  web:\n    image: shop/web:1.4\n    env_file: [web.env]\n".to_owned(),
            secrets: [("/srv/shop/web.env".into(), vec!["API_KEY".to_owned()])].into(),
        };
        golden("adopt-containers.txt", &super::proposal(&proposal, Paint::NONE));
        golden("adopted-containers.txt", &taken(&proposal));
    }

    #[test]
    fn what_is_adopted_already_is_said_so() {
        let mut again = adoption();
        again.left.clear();
        again.services[0].already = true;
        golden("adopt-again.txt", &plan(&again, Paint::NONE));
        assert_eq!(given_back(&again, "left to Docker"), "web: shop-web-1, shop-web-2 left to Docker\n");
    }
}
