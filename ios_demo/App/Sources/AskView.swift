import Foundation
import SwiftUI
import VlmpApp
import VlmpCore

/// A photo, questions about it, streamed answers, and which visual tokens were kept.
struct AskView: View {
    @Bindable var model: AppModel

    var body: some View {
        NavigationStack {
            List {
                PhotoSection(model: model)
                if let first = model.turns.first, let answer = first.answer, let photo = model.photo,
                    let manifest = model.manifest, !answer.stages.isEmpty
                {
                    KeptSection(photo: photo, answer: answer, manifest: manifest)
                }
                ForEach(model.turns) { turn in
                    TurnSection(turn: turn)
                }
                StatusSection(model: model)
                Section {
                    BundlePicker(title: "Model bundle", bundles: model.bundles, chosen: $model.chosen)
                    TextField("What is in this picture?", text: $model.draft, axis: .vertical)
                    Button(model.canReply ? "Ask further" : "Ask") {
                        if model.draft.isEmpty { model.draft = AppModel.usualQuestion }
                        model.ask()
                    }
                    .buttonStyle(.borderedProminent)
                    .disabled(!model.isIdle || model.photo == nil || model.chosen == nil)
                }
            }
            .navigationTitle("Ask")
        }
        .onOpenURL { url in
            let opened = url.startAccessingSecurityScopedResource()
            defer { if opened { url.stopAccessingSecurityScopedResource() } }
            do {
                model.choose(try Data(contentsOf: url), name: url.lastPathComponent)
            } catch {
                model.tell("The photo cannot be read: \(error.localizedDescription)")
            }
        }
    }
}

/// One of several bundles, by name.
struct BundlePicker: View {
    let title: LocalizedStringKey
    let bundles: [StoredBundle]
    @Binding var chosen: String?

    var body: some View {
        Picker(title, selection: $chosen) {
            ForEach(bundles) { bundle in
                Text(bundle.name).tag(String?.some(bundle.name))
            }
        }
    }
}

private struct TurnSection: View {
    let turn: Turn

    var body: some View {
        Section {
            Text(turn.question)
                .font(.headline)
                .accessibilityLabel("You: \(turn.question)")
            Text(turn.text.isEmpty ? "…" : turn.text)
                .textSelection(.enabled)
                .accessibilityLabel("Answer: \(turn.text)")
                .accessibilityAddTraits(.updatesFrequently)
            if let figures = turn.figures {
                Text(figures)
                    .font(.footnote)
                    .foregroundStyle(.secondary)
            }
            if let ending = turn.ending {
                Text(ending)
                    .font(.footnote)
            }
        }
    }
}
