import SwiftUI
import VlmpApp

struct RootView: View {
    let model: AppModel

    var body: some View {
        TabView {
            AskView(model: model)
                .tabItem { Label("Ask", systemImage: "text.bubble") }
            CompareView(model: model)
                .tabItem { Label("Compare", systemImage: "rectangle.split.2x1") }
            BundlesView(model: model)
                .tabItem { Label("Bundles", systemImage: "shippingbox") }
            BenchmarkView(model: model)
                .tabItem { Label("Benchmark", systemImage: "gauge") }
        }
    }
}

/// What runs, with a button that stops it, and what went wrong last.
struct StatusSection: View {
    let model: AppModel

    var body: some View {
        Section {
            if !model.isIdle {
                ActivityView(activity: model.activity)
                Button(model.stopping ? "Stopping …" : "Stop", role: .cancel) { model.stop() }
                    .disabled(model.stopping)
            }
            if let problem = model.problem {
                Text(problem)
                    .foregroundStyle(.red)
                    .textSelection(.enabled)
            }
        }
    }
}

private struct ActivityView: View {
    let activity: AppModel.Activity

    var body: some View {
        switch activity {
        case .idle:
            EmptyView()
        case .reading:
            ProgressView("Reading …")
        case .loading(let name):
            ProgressView("Loading \(name) …")
        case .answering:
            ProgressView("Answering …")
        case .deleting:
            ProgressView("Deleting …")
        case .importing(let name, let share):
            ProgressView("Importing \(name)", value: share)
        case .measuring(let done, let all):
            ProgressView("Run \(done) of \(all)", value: Double(done), total: Double(all))
        }
    }
}
