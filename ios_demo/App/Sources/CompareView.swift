import SwiftUI
import VlmpApp
import VlmpCore

/// The same question about the same photo: without pruning and with it, or with two schedules.
struct CompareView: View {
    @Bindable var model: AppModel
    @State private var words = ""

    var body: some View {
        NavigationStack {
            List {
                Section {
                    BundlePicker(title: "One bundle", bundles: model.bundles, chosen: $model.one)
                    BundlePicker(title: "The other", bundles: model.bundles, chosen: $model.other)
                    TextField("What is in this picture?", text: $words, axis: .vertical)
                    Button("Compare") { model.compare(words) }
                        .buttonStyle(.borderedProminent)
                        .disabled(!model.canCompare)
                } footer: {
                    Text(
                        model.photo == nil
                            ? "Choose a photo on the first page."
                            : "Each bundle in its turn is asked once to warm up, and once with the clock.")
                }
                StatusSection(model: model)
                if let photo = model.photo, !model.compared.isEmpty {
                    Section("Side by side") {
                        HStack(alignment: .top, spacing: 8) {
                            ForEach(model.compared) { one in
                                ComparedView(one: one, photo: photo)
                            }
                        }
                        if model.compared.count == 2 {
                            Text(Compared.summary(model.compared[0], model.compared[1]))
                                .font(.callout)
                        }
                    }
                }
            }
            .navigationTitle("Compare")
        }
    }
}

private struct ComparedView: View {
    let one: Compared
    let photo: Photo

    var body: some View {
        VStack(alignment: .leading, spacing: 6) {
            Text(one.bundle.name).font(.headline)
            ForEach(Array(one.answer.stages.indices), id: \.self) { stage in
                PhotoView(
                    photo: photo,
                    kept: KeptTokens(one.answer, stage: stage, shown: nil, one.bundle.manifest, photo.picture))
                if one.answer.stages.count > 1 { Text(one.bundle.manifest.stages[stage].line).font(.footnote) }
            }
            Text(one.answer.text).textSelection(.enabled)
            Text(one.figures)
                .font(.footnote)
                .foregroundStyle(.secondary)
        }
        .frame(maxWidth: .infinity, alignment: .leading)
    }
}
