//! The agent in real machines. Each test boots one.
#![allow(missing_debug_implementations, unreachable_pub, reason = "a test's own helpers")]

mod harness;

use harness::{Output, Vm, command, configure, shell};
use mimeo_agent_protocol::message::{ExitStatus, FailureKind, Input, Process, Reply, Request, TerminalSize};

#[tokio::test]
async fn a_container_lives_and_dies() {
    let (mut vm, container) = Vm::running("echo hello; exec sleep 1000").await;
    eprintln!("answered after {:?}", vm.answered_after);
    assert_eq!(container.pid, 1);
    assert_eq!(
        vm.sh("echo $$-$HOSTNAME; hostname; cat /etc/hostname; pwd").await.lines().nth(1),
        Some("box")
    );
    vm.must(Request::Signal { signal: 15 }).await;
    let output = container.output().await;
    let wanted = Output { stdout: "hello\n".into(), stderr: String::new(), status: ExitStatus::Signal(15) };
    assert_eq!(output, wanted);
    assert_eq!(vm.ask(Request::Shutdown).await, Reply::Done);
    vm.gone().await;
    eprintln!("{}", vm.console());
}
